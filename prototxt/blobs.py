"""A BlobProto as numpy arrays: views on the bytes of the file, made when they are asked for.

Source of what a blob's fields mean: Caffe, Blob::FromProto, Blob::ToProto and Blob::ShapeEquals.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from prototxt import caffe_pb2
from prototxt.dialects import WIRE
from prototxt.errors import FormatError
from prototxt.wire import FIXED32, FIXED64, LENGTH, Buffer, Field, Piece, length_field, number_field, read_field

log = logging.getLogger(__name__)

# All dialects that have a field of BlobProto write it under this number.
_NUMBER = {field.name: field.number for field in caffe_pb2.BlobProto.DESCRIPTOR.fields}
_LEGACY_AXES = ("num", "channels", "height", "width")
_VALUES = {
    _NUMBER["data"]: (FIXED32, np.dtype("<f4")),
    _NUMBER["diff"]: (FIXED32, np.dtype("<f4")),
    _NUMBER["double_data"]: (FIXED64, np.dtype("<f8")),
    _NUMBER["double_diff"]: (FIXED64, np.dtype("<f8")),
}


class BlobArray:
    """One parameter blob (or mean image, or solver history) of a file, or one made from an array.

    ``data`` and ``diff`` are arrays of ``shape``, float32 or float64 as stored; what comes from a file is read-only
    and a view on it where its values lie in one piece. To change values, assign an array. ``diff`` is None where
    no gradient is stored. ``legacy`` says that the shape is in the four fields num, channels, height, width, which
    take precedence over ``shape`` where a file has both.
    """

    def __init__(self, data: np.ndarray, diff: np.ndarray | None = None, where: str = "blob") -> None:
        self.where = where
        self.legacy = False
        self.changed = True
        self._raw: Buffer | None = None
        self._unknown = b""
        self._stored: dict[int, list[np.ndarray]] = {}
        self._data = _values(data)
        self.shape: tuple[int, ...] = self._data.shape
        self._diff: np.ndarray | None = None
        if diff is not None:
            self.diff = diff

    @classmethod
    def from_wire(cls, buffer: Buffer, start: int = 0, end: int | None = None, where: str = "blob") -> BlobArray:
        """The BlobProto in ``buffer[start:end]``. Raises FormatError if it is malformed; see ``problems`` too."""
        end = len(buffer) if end is None else end
        blob = cls.__new__(cls)
        blob.where = where
        blob.changed = False
        blob._raw = buffer[start:end]
        blob._data = blob._diff = None
        header, blob._stored = _split(buffer, start, end)
        blob.legacy = any(header.HasField(axis) for axis in _LEGACY_AXES)
        dims = [getattr(header, axis) for axis in _LEGACY_AXES] if blob.legacy else header.shape.dim
        blob.shape = tuple(dims)
        for name in (*_LEGACY_AXES, "shape"):
            header.ClearField(name)
        blob._unknown = header.SerializeToString()
        return blob

    def __repr__(self) -> str:
        return f"<{self.where}: {' '.join(map(str, self.shape))}{' (legacy)' if self.legacy else ''}>"

    @property
    def count(self) -> int:
        """The number of values the shape asks for; a shape without axes asks for one."""
        return math.prod(self.shape)

    @property
    def data(self) -> np.ndarray:
        """The values. Raises FormatError if there are fewer or more than the shape asks for."""
        if self._data is None:
            self._data = self._array("data", "double_data")
        return self._data

    @data.setter
    def data(self, values: np.ndarray) -> None:
        self._data = _values(values)
        if self._data.shape != self.shape:
            self.legacy, self.shape = False, self._data.shape
            self._diff = None
            for name in ("diff", "double_diff"):
                self._stored.pop(_NUMBER[name], None)
        self.changed = True

    @property
    def diff(self) -> np.ndarray | None:
        """The stored gradient, None without one."""
        if self._diff is None and (self._found("diff") or self._found("double_diff")):
            self._diff = self._array("diff", "double_diff")
        return self._diff

    @diff.setter
    def diff(self, values: np.ndarray | None) -> None:
        if values is not None and np.shape(values) != self.shape:
            raise FormatError(f"{self.where}: a diff of shape {np.shape(values)}, its data have {self.shape}")
        self._diff = None if values is None else _values(values)
        for name in ("diff", "double_diff"):
            self._stored.pop(_NUMBER[name], None)
        self.changed = True

    def shape_matches(self, target: Sequence[int]) -> bool:
        """Whether Caffe copies this blob into one of shape ``target`` (Blob::ShapeEquals).

        A legacy shape is held against the target's shape padded with ones on the left to four axes, so that a bias
        stored as 1 1 1 N fits a blob of shape N. Any other shape must be the same, axis by axis.
        """
        target = tuple(target)
        if self.legacy:
            return len(target) <= 4 and (1,) * (4 - len(target)) + target == self.shape
        return target == self.shape

    def problems(self) -> list[str]:
        """What keeps the values from being read: one text each, empty when all is well."""
        if any(dim < 0 for dim in self.shape):
            return [f"{self.where}: shape {self._shape_text()} has a negative axis"]
        if self._data is not None:
            return []
        found = [("values", self._found("double_data") or self._found("data"))]
        if diffs := self._found("double_diff") or self._found("diff"):
            found.append(("gradient values", diffs))
        return [
            f"{self.where}: {count} {what} stored, its shape {self._shape_text()} asks for {self.count}; the file is "
            "damaged or was written by something other than Caffe"
            for what, count in found
            if count != self.count
        ]

    def pieces(self, dialect: str) -> list[Piece]:
        """The BlobProto as ``dialect`` writes it, without copying values; the file's own bytes where unchanged.

        A dialect without ``shape`` gets the legacy axes, one without ``double_data`` gets float32; nothing may be in
        ``cannot_be_written``.
        """
        known = WIRE[dialect]["BlobProto"]
        if self._raw is not None and not self.changed and self._within(known):
            return [self._raw]
        encoded: dict[int, list[Piece]] = {}
        if self.legacy or _NUMBER["shape"] not in known:
            for axis, dim in zip(_LEGACY_AXES, self._four_axes(), strict=True):
                encoded[_NUMBER[axis]] = [number_field(_NUMBER[axis], dim)]
        elif self.shape:  # Caffe touches the field once per axis: a blob without axes has none
            message = caffe_pb2.BlobShape(dim=self.shape).SerializeToString()
            encoded[_NUMBER["shape"]] = length_field(_NUMBER["shape"], [message])
        for values, single, double in ((self.data, "data", "double_data"), (self.diff, "diff", "double_diff")):
            if values is None or not values.size:
                continue
            number = _NUMBER[double if values.dtype == np.float64 else single]
            if number not in known:
                log.warning("%s: float64 values are written as float32, %s has no %s", self.where, dialect, double)
                number, values = _NUMBER[single], values.astype(np.float32)
            encoded[number] = length_field(number, [_bytes(values)])
        return [piece for number in sorted(encoded) for piece in encoded[number]] + [self._unknown]

    def cannot_be_written(self, dialect: str) -> list[str]:
        """Why ``pieces`` would fail, one text each."""
        if _NUMBER["shape"] not in WIRE[dialect]["BlobProto"] and len(self.shape) > 4:
            return [
                f"{self.where}: shape {self._shape_text()} has {len(self.shape)} axes, a blob in {dialect} has four; "
                "write another dialect"
            ]
        return self.problems()

    def _within(self, known: dict[int, int]) -> bool:
        """Whether a dialect that knows these numbers of BlobProto understands the blob as it is stored."""
        written = set(self._stored) | (set() if self.legacy else {_NUMBER["shape"]})
        return written <= set(known)

    def _four_axes(self) -> tuple[int, ...]:
        return (1,) * (4 - len(self.shape)) + self.shape

    def _found(self, name: str) -> int:
        return sum(chunk.size for chunk in self._stored.get(_NUMBER[name], ()))

    def _array(self, single: str, double: str) -> np.ndarray:
        if problems := self.problems():
            raise FormatError(problems)
        chunks = self._stored.get(_NUMBER[double if self._found(double) else single], [])
        if len(chunks) != 1:
            values = np.concatenate(chunks) if chunks else np.zeros(0, "<f4")
            values.flags.writeable = False
        else:
            values = chunks[0]
        return values.reshape(self.shape)

    def _shape_text(self) -> str:
        return "(" + ", ".join(map(str, self.shape)) + ")"


def _values(array: np.ndarray) -> np.ndarray:
    """float64 stays, anything else becomes float32: the two that a BlobProto can hold."""
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _bytes(array: np.ndarray) -> Piece:
    """The values in C order, little endian, as bytes; a view where they lie like that already."""
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    return memoryview(flat.view(np.uint8))


def _split(buffer: Buffer, start: int, end: int) -> tuple[caffe_pb2.BlobProto, dict[int, list[np.ndarray]]]:
    """Everything but the values as a message, and the values by field number."""
    small: list[Piece] = []
    values: dict[int, list[np.ndarray]] = {}
    at = start
    while at < end:
        field = read_field(buffer, at, end)
        at = field.end
        native, dtype = _VALUES.get(field.number, (None, None))
        if field.wire_type == LENGTH and dtype is not None:
            if (field.end - field.body) % dtype.itemsize:
                raise FormatError(
                    f"byte {field.body}: {field.end - field.body} bytes of packed values, expected a multiple of "
                    f"{dtype.itemsize}"
                )
            values.setdefault(field.number, []).append(np.frombuffer(buffer[field.body : field.end], dtype))
        elif native is not None and field.wire_type == native:
            run = _unpacked_run(buffer, field, end, dtype)
            values.setdefault(field.number, []).append(run["value"])
            at = field.start + run.nbytes
        else:
            small.append(buffer[field.start : field.end])
    header = caffe_pb2.BlobProto()
    try:
        header.ParseFromString(b"".join(small))
    except DecodeError as error:
        raise FormatError(f"byte {start}: a blob whose shape cannot be read ({error})") from error
    return header, values


def _unpacked_run(buffer: Buffer, first: Field, end: int, dtype: np.dtype) -> np.ndarray:
    """The fields of one number that follow each other from ``first`` on, found without a step per value."""
    tag_size = first.body - first.start
    record = np.dtype([("tag", np.uint8, (tag_size,)), ("value", dtype)])
    records = np.frombuffer(buffer[first.start : end], record, (end - first.start) // record.itemsize)
    others = np.flatnonzero((records["tag"] != records["tag"][0]).any(axis=1))
    return records[: others[0]] if others.size else records
