"""Records of ``converters.record``, read back: nothing in them is trusted, arrays are read as they are needed."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.record import FORMAT, VERSION, sample_positions
from prototxt.errors import FormatError, MissingFileError

_EXPECTED = "expected a record that converters/record.py wrote; copy it again, or record anew"
_LARGEST, _DEFLATED = 2**31, 1100  # bytes of one array; how often zlib can make a byte of its output at most
_BROKEN = (ValueError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass
class Expected:
    """What was recorded of one array: its values at some flat positions, or all of them."""

    shape: tuple[int, ...]
    values: np.ndarray
    positions: np.ndarray | None
    """None where ``values`` is the whole array, in its shape."""
    stats: np.ndarray | None
    """Sum, sum of absolute values, minimum, maximum of the whole array, where ``values`` is not all of it."""

    @property
    def scale(self) -> float:
        """The largest finite absolute value."""
        known = np.concatenate([self.values.ravel(), self.stats[2:] if self.stats is not None else []])
        return float(np.abs(known[np.isfinite(known)]).max(initial=0))


@dataclass
class Stage:
    """One layer that was run."""

    index: int
    """In Caffe's order, Split layers counted."""
    name: str
    tops: list[str]
    shapes: list[tuple[int, ...]]


class Record:
    """A record in a file (``read_record``) or in memory (``Recorder``'s ``meta`` and ``arrays``).

    Raises FormatError, here and whenever an array is asked for, where something is missing or does not fit.
    """

    def __init__(self, meta: dict[str, Any], arrays: Mapping[str, np.ndarray], path: str = "record") -> None:
        self.path, self._arrays = path, arrays
        try:
            self.prototxt = str(meta["prototxt"])
            self.weights = str(meta["weights"]) if "weights" in meta else None
            self.phase = str(meta.get("phase", "test"))
            self.stages = [_stage(entry) for entry in meta["stages"]]
            self.params = {
                str(name): [(_shape(shape), int(crc)) for shape, crc in blobs] for name, blobs in meta["params"]
            }
            self.labels_of = _pair(meta["labels"]) if "labels" in meta else None
            self.gradients = [(str(k), str(n), int(i), _shape(s)) for k, n, i, s in meta.get("gradients", [])]
            self.output_diffs = [str(name) for name in meta.get("output_diffs", [])]
            self.made_by = ", ".join(f"{key} {meta[key]}" for key in ("caffe", "python", "numpy") if key in meta)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FormatError(f"{path}: its description is damaged ({error!r}); {_EXPECTED}") from error

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """What was fed, by blob, float32."""
        names = [key.removeprefix("input/") for key in self._arrays if key.startswith("input/")]
        return {name: self._array(f"input/{name}").astype(np.float32) for name in names}

    @property
    def is_random(self) -> bool:
        """Whether some Dropout drew, so that no second run gives the same."""
        return any(key.endswith("/kept") for key in self._arrays)

    def expected(self, key: str, shape: tuple[int, ...]) -> Expected:
        """An array of the record, whole or sampled."""
        if key in self._arrays:
            return Expected(shape, self._array(key, shape).astype(np.float32), None, None)
        values, stats = self._array(f"{key}/sample").ravel(), self._array(f"{key}/stats", (4,))
        if not values.size or not math.prod(shape):
            raise FormatError(f"{self.path}: {key!r} holds no values; {_EXPECTED}")
        positions = sample_positions(key, math.prod(shape), values.size)
        return Expected(shape, values, positions, stats.astype(np.float64))

    def has_mask(self, stage: Stage, top: int) -> bool:
        """Whether a top is positions of pooling."""
        return f"top/{stage.index}/{top}/index" in self._arrays

    def mask(self, stage: Stage, top: int) -> np.ndarray:
        """Positions of pooling (N, C, h, w), int64."""
        key, shape = f"top/{stage.index}/{top}", stage.shapes[top]
        base, table = (self._array(f"{key}/{part}").astype(np.int64) for part in ("base", "table"))
        index = self._array(f"{key}/index", shape).astype(np.int64)
        if len(shape) != 4 or base.shape != shape[2:] or index.min(initial=0) < 0 or index.max(initial=0) >= table.size:
            raise FormatError(f"{self.path}: the positions of {stage.name!r} are damaged; {_EXPECTED}")
        return base + table.ravel()[index]

    def kept(self, stage: Stage, top: int) -> np.ndarray | None:
        """What Dropout let pass, as True; None where it let everything pass."""
        key, shape = f"top/{stage.index}/{top}/kept", stage.shapes[top]
        if key not in self._arrays:
            return None
        bits = self._array(key, ((math.prod(shape) + 7) // 8,))
        return np.unpackbits(bits.astype(np.uint8), count=math.prod(shape)).reshape(shape).astype(bool)

    def labels(self) -> np.ndarray:
        """The strongest class of the last scores: (N, H, W), or (N,)."""
        return self._array("labels")

    def _array(self, key: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        try:
            values = self._arrays[key]
        except KeyError:
            raise FormatError(f"{self.path}: has no {key!r}; {_EXPECTED}") from None
        except _BROKEN as error:
            raise FormatError(f"{self.path}: {key!r} cannot be read ({error}); {_EXPECTED}") from error
        if shape is not None and values.shape != shape:
            raise FormatError(f"{self.path}: {key!r} has the shape {values.shape}, {shape} was told; {_EXPECTED}")
        return values


def read_record(path: str | os.PathLike[str]) -> Record:
    """Open a record. Raises MissingFileError, or FormatError for any other file."""
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: there is no such file; expected a record that converters/record.py wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_size(archive, member)
        arrays = np.load(path, allow_pickle=False)
        meta = json.loads(bytes(arrays["meta"].astype(np.uint8)).decode())
    except (KeyError, *_BROKEN) as error:
        raise FormatError(f"{path}: no record ({error}); {_EXPECTED}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise FormatError(f"{path}: not made by converters/record.py; {_EXPECTED}")
    if meta.get("version") != VERSION:
        advice = "record anew, or update this package"
        raise FormatError(f"{path}: version {meta.get('version')}; expected {VERSION}: {advice}")
    return Record(meta, arrays, str(path))


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError where an array is not as large as it says, before memory is taken for it."""
    with archive.open(member) as file:
        major, _ = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "biuf" or size != member.file_size - file.tell():
            raise ValueError(f"{member.filename} says it holds {shape} of {dtype}, which it does not")
    if size > min(_LARGEST, _DEFLATED * member.compress_size):
        raise ValueError(f"{member.filename} says it holds {size:,} bytes, more than is plausible")


def _shape(dims: Any) -> tuple[int, ...]:
    shape = tuple(int(dim) for dim in dims)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return shape


def _pair(numbers: Any) -> tuple[int, int]:
    layer, top = numbers
    return int(layer), int(top)


def _stage(entry: dict[str, Any]) -> Stage:
    tops, shapes = [str(top) for top in entry["tops"]], [_shape(shape) for shape in entry["shapes"]]
    if len(tops) != len(shapes):
        raise ValueError(f"{len(tops)} tops with {len(shapes)} shapes")
    return Stage(int(entry["layer"]), str(entry["name"]), tops, shapes)
