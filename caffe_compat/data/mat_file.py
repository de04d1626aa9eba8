"""MATLAB files (level 5), as far as DeepLab's MatWrite and MatRead need them: arrays of numbers.

Source: The MathWorks, MAT-File Format. Such a file is a header of 128 bytes and elements, each a type, a size and so
many bytes, filled up to a multiple of 8; an array is an element with elements inside. Arrays lie column by column.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prototxt.errors import FormatError, MissingFileError

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_INT8, _INT32, _UINT32, _SINGLE, _MATRIX, _COMPRESSED = 1, 5, 6, 7, 14, 15
_NUMERIC_CLASSES = range(6, 16)  # double, single and the whole numbers
_SINGLE_CLASS = 7


def write_mat(path: str | os.PathLike[str], name: str, array: np.ndarray) -> None:
    """Write one array as single-precision numbers under a name."""
    dims = struct.pack(f"<{array.ndim}i", *array.shape)
    matrix = (
        _element(_UINT32, struct.pack("<2I", _SINGLE_CLASS, 0))
        + _element(_INT32, dims)
        + _element(_INT8, name.encode("ascii"))
        + _element(_SINGLE, array.astype("<f4").tobytes(order="F"))
    )
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    Path(path).write_bytes(header + _element(_MATRIX, matrix))


def _element(kind: int, body: bytes) -> bytes:
    return struct.pack("<2I", kind, len(body)) + body + b"\0" * (-len(body) % 8)


def read_mat(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of numbers in a file by their names; other kinds of content are left out.

    Raises:
        MissingFileError: the file is not there; FormatError: it is no such file, or a damaged one.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{os.fspath(path)!r} does not exist; expected a MATLAB file") from None
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content.startswith(b"MATLAB 7.3"):
        raise FormatError(f"{path}: not a MATLAB file of level 5; save it with `save(..., '-v6')` or '-v7'")
    found = {}
    try:
        for kind, body in _elements(content[128:], order):
            if kind == _COMPRESSED:
                ((kind, body),) = _elements(zlib.decompress(body), order)
            if kind == _MATRIX and (named := _matrix(body, order)):
                found.update([named])
    except (struct.error, zlib.error, ValueError) as error:
        raise FormatError(f"{path}: a damaged MATLAB file ({error})") from error
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}2I", content, at)
        if kind >> 16:  # a small one: size and type share the first number, the body follows at once
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(content):
            raise ValueError(f"an element of {size} bytes where {len(content) - start} are left")
        yield kind, content[start : start + size]
        at = end


def _matrix(body: bytes, order: str) -> tuple[str, np.ndarray] | None:
    (_, flags), (_, dims), (_, name), *parts = _elements(body, order)
    if struct.unpack_from(f"{order}I", flags)[0] & 0xFF not in _NUMERIC_CLASSES or not parts:
        return None
    kind, values = parts[0]
    shape = np.frombuffer(dims, f"{order}i4")
    array = np.frombuffer(values, order + _TYPES[kind]).reshape(shape, order="F")
    return name.decode("ascii"), array
