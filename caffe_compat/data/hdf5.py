"""HDF5Data: rows of HDF5 files, file after file, a dataset for each top."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from caffe_compat.data.list_source import count_missing
from caffe_compat.data.lists import read_names
from caffe_compat.data.source import Sample, Source
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import HDF5DataParameter
from prototxt.errors import FormatError, MissingFileError, nearest

_KEPT = 2
"""Files in memory: the current one and, at a border, its neighbour."""
_loading = threading.Lock()


class Rows(NamedTuple):
    """What a file holds for the tops."""

    path: Path
    count: int
    shapes: tuple[Shape, ...]
    """Of a row in each dataset."""


class HDF5Source(Source):
    """Batches of ``(N, …)`` for each dataset, float32. They run on from file to file, and from the last to the first.

    With ``shuffle`` the files come in a new order in every epoch, and within each file its rows; as in Caffe, the rows
    of a file stay together. A file is read as a whole.

    Args:
        param: ``hdf5_data_param``.
        names: the datasets.
        paths: finds the files; by default relative to the current folder.
        seed, workers, ahead: as in Source.

    Raises:
        LayerError: there is no source.
    """

    def __init__(
        self,
        param: HDF5DataParameter,
        names: Sequence[str],
        paths: Paths | None = None,
        seed: int | None = None,
        *,
        workers: int = 1,
        ahead: int | None = None,
    ) -> None:
        if not param.source:
            raise LayerError(
                "hdf5_data_param has no source; expected a list with the name of an HDF5 file on each line"
            )
        self.param, self.names = param, tuple(names)
        self.paths = paths or Paths()
        self._loaded: dict[int, tuple[np.ndarray, ...]] = {}
        super().__init__(param.batch_size, shuffle=param.shuffle, seed=seed, workers=workers, ahead=ahead)

    @cached_property
    def list_file(self) -> Path:
        """Where the list was found. Raises MissingFileError."""
        return self.paths.resolve(self.param.source)

    @property
    def where(self) -> str:
        """The list."""
        return str(self.list_file)

    @cached_property
    def files(self) -> list[Rows]:
        """The files of the list, each looked into.

        Raises:
            MissingFileError: one is missing.
            FormatError: one is damaged, or the datasets are not those of the tops.
        """
        names = read_names(self.list_file)
        try:
            found = [self.paths.resolve(name, self.list_file) for name in names]
        except MissingFileError as error:
            raise MissingFileError([str(error), count_missing(names, self.list_file, self.paths)]) from None
        files = [_look_into(path, self.names) for path in found]
        for other in files[1:]:
            for name, one, two in zip(self.names, files[0].shapes, other.shapes, strict=True):
                if one != two:
                    raise FormatError(
                        f"{other.path}: the rows of {name!r} have the shape {two}, those of {files[0].path} {one}; "
                        "expected one shape in all files of a list"
                    )
        return files

    @cached_property
    def _starts(self) -> np.ndarray:
        """The number of the first row of each file, and of all rows."""
        return np.cumsum([0, *(file.count for file in self.files)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, rng: np.random.Generator) -> Sequence[int] | np.ndarray:
        """File after file."""
        if not self.shuffle:
            return range(len(self))
        files = rng.permutation(len(self.files))
        return np.concatenate([self._starts[file] + rng.permutation(self.files[file].count) for file in files])

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """A row by its number, counted through all files; nothing is drawn for it."""
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[file])
        blobs = tuple(array[row] for array in self._load(file))
        return Sample(blobs, (f"{self.files[file].path}: row {row}",))

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_loaded": {}}

    def _load(self, file: int) -> tuple[np.ndarray, ...]:
        with _loading:
            arrays = self._loaded.pop(file, None) or _read(self.files[file], self.names)
            self._loaded[file] = arrays  # the one that was used last stands last
            if len(self._loaded) > _KEPT:
                del self._loaded[next(iter(self._loaded))]
        return arrays


def _look_into(path: Path, names: Sequence[str]) -> Rows:
    """Number and shapes of the rows in a file. Raises FormatError with everything that is wrong."""
    try:
        with h5py.File(path, "r") as file:
            problems = [f"{path}: {problem}" for name in names if (problem := _problem(file, name))]
            if problems:
                raise FormatError(problems)
            shapes = [file[name].shape for name in names]
    except OSError as error:
        raise _unreadable(path, error) from error
    counts = {name: shape[0] for name, shape in zip(names, shapes, strict=True)}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        told = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
        raise FormatError(f"{path}: the numbers of rows (first axis) are {told}; expected equally many, and at least 1")
    return Rows(path, shapes[0][0], tuple(shape[1:] for shape in shapes))


def _problem(file: h5py.File, name: str) -> str:
    """What is wrong with a dataset, or an empty string."""
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        there = [key for key, value in file.items() if isinstance(value, h5py.Dataset)]
        hint = nearest(name, there) or f"expected one of {', '.join(there) or 'none'}"
        return f"has no dataset {name!r}, after which the layer's top is named; {hint}"
    if dataset.dtype.kind not in "biuf":
        return f"dataset {name!r} holds {dataset.dtype}; expected numbers"
    return "" if dataset.shape else f"dataset {name!r} is a single value; expected rows along a first axis"


def _read(rows: Rows, names: Sequence[str]) -> tuple[np.ndarray, ...]:
    try:
        with h5py.File(rows.path, "r") as file:
            return tuple(file[name][()].astype(np.float32, copy=False) for name in names)
    except OSError as error:
        raise _unreadable(rows.path, error) from error


def _unreadable(path: Path, error: OSError) -> FormatError:
    return FormatError(f"{path}: HDF5 cannot read it ({error}); expected a whole .h5 file. Copy it or write it again")
