"""The base of the layers that read files: opened when first needed, and built all the same when nothing is there."""

from __future__ import annotations

from typing import ClassVar

import torch
from google.protobuf.message import Message

from caffe_compat.data.list_source import ListSource
from caffe_compat.data.source import Source
from caffe_compat.data.transform import crop_of
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.paths import ROOT_MAP
from caffe_compat.shapes import Shape
from prototxt.errors import FormatError, MissingFileError


class DataLayer(TorchLayer):
    """Batches from a source. The reading itself is in caffe_compat.data.

    A net whose files are not there can still be built and fed by hand; see ``must_guess_size``.
    """

    bottoms = (0, 0)
    tops = (2, 2)
    is_source = True
    channels = 3
    """Of the first top, as long as nothing was read."""

    def setup(self) -> None:
        """Read the message; open nothing."""
        self.param = self.read_param()
        if self.param.batch_size < 1:
            raise LayerError("`batch_size` is 0 or missing; expected at least 1")
        self.reading_phase = self.message.phase if self.message.HasField("phase") else self.context.phase
        # torch.manual_seed before a net is built decides everything that its data layers draw
        self.seed = int(torch.randint(2**63 - 1, (), device="cpu"))
        self.source: Source | None = None
        self.missing: MissingFileError | None = None

    # ---- what a subclass says

    def read_param(self) -> Message:
        """The layer's own message, which has a ``batch_size``."""
        raise NotImplementedError

    def make_source(self) -> Source:
        """The source of the batches, with this layer's ``reading_phase`` and ``seed``. Raises LayerError."""
        raise NotImplementedError

    def written_size(self) -> tuple[int, int] | None:
        """The size (H, W) of the first top that the message fixes."""
        return None

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """The shapes of the tops after the first, as long as nothing was read."""
        raise NotImplementedError

    # ---- the rest follows

    def open(self) -> Source:
        """The source of the batches. Raises LayerError."""
        if self.source is None:
            self.source = self.make_source()
        return self.source

    def _own_size(self) -> tuple[int, int] | None:
        """The size that the user or the message itself fixes."""
        return self.context.image_size or self.written_size()

    def must_guess_size(self) -> bool:
        """Whether no file, no message and no user says how large the tops are."""
        if self.message.top[0] in self.context.input_shapes or self._own_size():
            return False
        try:
            return self._read_shapes() is None
        except LayerError:
            return False  # told when the shapes are asked for

    def _read_shapes(self) -> list[Shape] | None:
        try:
            return [tuple(shape) for shape in self.open().top_shapes()]
        except MissingFileError as error:
            self.missing = error
            return None
        except FormatError as error:
            raise LayerError(error.problems) from error

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """As given, else as read, else as the message says, else as guessed."""
        given = self.context.input_shapes
        data = given.get(self.message.top[0])
        shapes = None if data or self.context.image_size else self._read_shapes()
        if shapes is None:
            size = self._own_size() or self.context.fallback_size or (0, 0)
            data = data or (self.param.batch_size, self.channels, *size)
            shapes = [data, *self.shapes_beside(data)]
        names = [*self.message.top, *[""] * (len(shapes) - self.top_count)]  # a top may be made without being named
        return [given.get(name, shape) for name, shape in zip(names, shapes, strict=True)]

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
        return tuple(torch.from_numpy(blob) for blob in self.open().next_batch())

    def state(self) -> dict[str, int] | None:
        """Where the source stands; None where nothing was read yet, or cannot be."""
        return None if self.source is None or self.missing else self.source.state_dict()

    def load_state(self, state: dict[str, int]) -> None:
        """Go on where a source over the same entries stood."""
        self.open().load_state_dict(state)

    @property
    def last_files(self) -> list[tuple[str, ...]]:
        """What each item of the current batch was read from; the last is what its label was read from."""
        return [] if self.source is None else list(self.source.last_files)


class ListDataLayer(DataLayer):
    """Batches from a list of images."""

    source_class: ClassVar[type[ListSource]]

    def read_param(self) -> Message:
        """As written."""
        return getattr(self.message, self.source_class.message)

    def make_source(self) -> ListSource:
        """The list."""
        context = self.context
        return self.source_class(
            self.param,
            self.message.transform_param,
            self.reading_phase,
            context.dialect,
            context.paths,
            self.seed,
            **self.source_options(),
        )

    def source_options(self) -> dict[str, object]:
        """What else the source is made with."""
        return {}

    def crop(self) -> tuple[int, int] | None:
        """The size (H, W) that images are cropped to."""
        return crop_of(self.message.transform_param)

    def written_size(self) -> tuple[int, int] | None:
        """That of the crop, else the one that images are resized to."""
        if self.crop():
            return self.crop()
        if self.param.new_height and self.param.new_width:
            return self.param.new_height, self.param.new_width
        return None
