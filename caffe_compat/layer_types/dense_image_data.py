"""DenseImageData: pairs of an image and a label image, as a layer. The reading itself is in caffe_compat.data."""

from __future__ import annotations

import torch

from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.paths import ROOT_MAP
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.errors import MissingFileError


@layer("DenseImageData")
class DenseImageData(TorchLayer):
    """Batches from a list of image pairs.

    tops: data (N, 3, H, W), BGR, 0 to 255 unless transformed; label (N, 1, H, W)

    A net whose images are not there can still be built and fed by hand; see ``must_guess_size``.
    """

    bottoms = (0, 0)
    tops = (2, 2)
    is_source = True

    def setup(self) -> None:
        """Open the list, if it is there."""
        self.param = self.message.dense_image_data_param
        if self.param.batch_size < 1:
            raise LayerError("`batch_size` is 0 or missing; expected at least 1")
        self.source: DenseImageSource | None = None
        self.missing: MissingFileError | None = None

    def open(self) -> DenseImageSource:
        """The source of the batches. Raises MissingFileError."""
        if self.source is None:
            self.source = DenseImageSource(
                self.param, self.message.transform_param, self.context.phase, self.context.dialect, self.context.paths
            )
        return self.source

    def _own_size(self) -> tuple[int, int] | None:
        """The size that the user or the message itself fixes."""
        if self.context.image_size:
            return self.context.image_size
        if self.param.crop_height and self.param.crop_width:
            return self.param.crop_height, self.param.crop_width
        if self.param.new_height and self.param.new_width:
            return self.param.new_height, self.param.new_width
        return None

    def must_guess_size(self) -> bool:
        """Whether no image, no message and no user says how large the tops are."""
        if self.message.top[0] in self.context.input_shapes or self._own_size():
            return False
        return self._read_shapes() is None

    def _read_shapes(self) -> list[Shape] | None:
        try:
            return [tuple(shape) for shape in self.open().top_shapes()]
        except MissingFileError as error:
            self.missing = error
            return None

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """As given, else as read, else as the message says, else as guessed."""
        data, label = self.message.top
        given = self.context.input_shapes.get(data)
        shapes = None if given or self.context.image_size else self._read_shapes()
        if shapes is None:
            size = self._own_size() or self.context.fallback_size or (0, 0)
            shape = given or (self.param.batch_size, 3 if self.param.is_color else 1, *size)
            factor = max(1, self.param.label_divide_factor)
            shapes = [shape, (shape[0], 1, shape[2] // factor, shape[3] // factor)]
        return [shapes[0], self.context.input_shapes.get(label) or shapes[1]]

    def remarks(self) -> list[str]:
        """Name the missing file and the size taken in its place."""
        if self.missing is None:
            return []
        height, width = self.top_shapes()[0][2:]
        what = str(self.missing).partition("; looked")[0]  # running the layer lists the places
        return [
            f"{what}, so the net is built for {height}x{width} and must be fed by hand. Another size is chosen by "
            f"input_shapes={{{self.message.top[0]!r}: (N, C, H, W)}} or --input-size HxW; where files lie is said by "
            f"--root OLD=NEW or {ROOT_MAP}"
        ]

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The next batch. Raises MissingFileError when the data is not there."""
        data, label = self.open().next_batch()
        return torch.from_numpy(data), torch.from_numpy(label)

    @property
    def last_files(self) -> list[tuple[str, str]]:
        """Image and label file of each item of the current batch."""
        return [] if self.source is None else list(self.source.last_files)
