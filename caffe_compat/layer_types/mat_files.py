"""MatWrite and MatRead: blobs as MATLAB files (DeepLab)."""

from __future__ import annotations

import numpy as np
import torch

from caffe_compat.data.mat_file import read_mat, write_mat
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import MatReadParameter, MatWriteParameter
from prototxt.errors import FormatError, MissingFileError

_VARIABLE = "data"


class _MatFiles(TorchLayer):
    """Files named by ``prefix``, a line of ``source`` without its last ``strip`` characters, and a number."""

    def name_files(self, param: MatWriteParameter | MatReadParameter) -> None:
        """Read the parameters. Raises LayerError."""
        self.prefix, self.source, self.strip = param.prefix, param.source, param.strip
        self.passes = 0
        self.listed: list[str] | None = None
        if self.strip < 0:
            raise LayerError(f"`strip: {self.strip}`; expected none below 0")

    def names(self) -> list[str]:
        """The lines of the source: the first word of each, stripped. Raises LayerError, MissingFileError."""
        if self.listed is None:
            words = self.context.paths.resolve(self.source).read_text().splitlines()
            words = [line.split()[0] if line.split() else "" for line in words]
            short = [word for word in words if len(word) <= self.strip]
            if short:
                raise LayerError(f"{self.source}: {short[0]!r} in the list; expected more than {self.strip} characters")
            self.listed = [word[: len(word) - self.strip] for word in words]
        return self.listed

    def file(self, name: str, blob: int) -> str:
        """The file for a blob."""
        return f"{self.prefix}{name}_blob_{blob}.mat"


@layer("MatWrite")
class MatWrite(_MatFiles):
    """Writes every bottom to a file of its own, in each ``period``-th pass; without ``source`` as ``iter_<n>``.

    bottoms: any number, at most (N, C, H, W). The array ``data`` in a file has the axes W, H, C, N.
    """

    bottoms = (1, None)
    tops = (0, 0)

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.mat_write_param
        self.name_files(param)
        self.period = param.period
        if self.period < 1:
            raise LayerError(f"`period: {self.period}`; expected at least 1")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """None."""
        if any(len(shape) > 4 for shape in bottoms):
            raise LayerError(f"bottoms {[tuple(shape) for shape in bottoms]}; expected at most 4 axes")
        return []

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Write. Raises LayerError beyond the end of the list."""
        if self.passes % self.period == 0:
            if self.source and self.passes >= len(self.names()):
                raise LayerError(f"pass {self.passes + 1}, but {self.source} has only {len(self.names())} lines")
            name = self.names()[self.passes] if self.source else f"iter_{self.passes}"
            for i, bottom in enumerate(bottoms):
                values = bottom.detach().cpu().numpy()
                values = values.reshape(*values.shape, *(1,) * (4 - values.ndim))
                write_mat(
                    self.context.paths.resolve_output(self.file(name, i)), _VARIABLE, values.transpose(3, 2, 1, 0)
                )
        self.passes += 1
        return ()


@layer("MatRead")
class MatRead(_MatFiles):
    """Batches of what MatWrite wrote, in the order of the list and over again.

    tops: any number, each (batch_size, C, H, W); the files hold one item each, all of one size
    """

    bottoms = (0, 0)
    tops = (1, None)
    is_source = True

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.mat_read_param
        self.name_files(param)
        self.items = param.batch_size
        if not self.source or self.items < 1:
            raise LayerError(f"`source: {self.source!r} batch_size: {self.items}`; expected a list and at least 1")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """As given, else as in the first files."""
        given = [self.context.input_shapes.get(top) for top in self.message.top]
        if all(given):
            return given
        try:
            return [(self.items, *self.read(self.names()[0], i).shape) for i in range(self.top_count)]
        except (FormatError, MissingFileError) as error:
            raise LayerError(error.problems) from error

    def read(self, name: str, blob: int) -> np.ndarray:
        """One item (C, H, W). Raises FormatError, MissingFileError."""
        path = self.context.paths.resolve(self.file(name, blob))
        arrays = read_mat(path)
        if _VARIABLE not in arrays:
            raise FormatError(f"{path}: holds {', '.join(arrays) or 'no array'}; expected {_VARIABLE!r}")
        array = arrays[_VARIABLE]
        values = array.reshape(*array.shape, *(1,) * (4 - array.ndim)).transpose()
        if values.ndim != 4 or values.shape[0] != 1:
            raise FormatError(f"{path}: an array of {array.shape}; expected (W, H, C, 1)")
        return values[0].astype(np.float32)

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The next batch."""
        names = [self.names()[(self.passes + i) % len(self.names())] for i in range(self.items)]
        self.passes += self.items
        batches = [[self.read(name, blob) for name in names] for blob in range(self.top_count)]
        for batch in batches:
            if len({item.shape for item in batch}) > 1:
                raise LayerError(f"items of the shapes {[item.shape for item in batch]}; expected them alike")
        return tuple(torch.from_numpy(np.stack(batch)) for batch in batches)
