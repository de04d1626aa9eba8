"""One value of protobuf's text format: numbers, booleans, enums and strings, with their limits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from google.protobuf.descriptor import FieldDescriptor

from prototxt.errors import nearest

_F = FieldDescriptor
_LIMITS = {
    _F.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _F.CPPTYPE_UINT32: (0, 2**32 - 1),
    _F.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _F.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_BOOLS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
_BASED = re.compile(r"0[xX][0-9a-fA-F]+|0[0-9]+")
_LARGEST_FLOAT = 3.4028235677973366e38  # from here on float32 rounds to infinity
_ESCAPE = re.compile(
    r"\\(u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63}


class ScalarError(ValueError):
    """What is wrong with a value, and what was expected."""


def scalar(field: FieldDescriptor, kind: str, texts: Sequence[str], negative: bool) -> int | float | bool | str | bytes:
    """The value of a field.

    Args:
        field: what it is for.
        kind: ``number``, ``word`` or ``string``.
        texts: as written, with quotes; several for adjacent strings.
        negative: whether a minus stands before it.

    Raises:
        ScalarError: it is of another type, or out of range.
    """
    return _READERS[field.cpp_type](field, kind, texts, negative)


def _wrong(field: FieldDescriptor, texts: Sequence[str], negative: bool, expected: str) -> ScalarError:
    return ScalarError(f"found {'-' * negative}{texts[0]} for {field.name!r}; expected {expected}")


def _integer(field: FieldDescriptor, kind: str, texts: Sequence[str], negative: bool) -> int:
    value = _whole(kind, texts[0])
    low, high = _LIMITS[field.cpp_type]
    if value is None:
        raise _wrong(field, texts, negative, "a whole number")
    value = -value if negative else value
    if not low <= value <= high:
        raise _wrong(field, texts, negative, f"{low} to {high}")
    return value


def _whole(kind: str, text: str) -> int | None:
    """Decimal, hexadecimal (0x) or octal (a leading 0)."""
    if kind != "number":
        return None
    try:
        return int(text, 8 if re.fullmatch(r"0[0-7]+", text) else 0)
    except ValueError:
        return None


def _real(field: FieldDescriptor, kind: str, texts: Sequence[str], negative: bool) -> float:
    text = texts[0].lower()
    if kind == "word" and text in ("inf", "infinity", "nan"):
        value = float(text)
    elif kind == "number" and _BASED.fullmatch(text) and (whole := _whole(kind, text)) is not None:
        value = float(whole)  # C++ reads whole numbers as such first
    elif kind == "number" and not _BASED.fullmatch(text):
        value = float(text.removesuffix("f"))
    else:
        raise _wrong(field, texts, negative, "a number")
    if field.cpp_type == _F.CPPTYPE_FLOAT and _LARGEST_FLOAT <= value < math.inf:
        value = math.inf  # as C++ converts it
    return -value if negative else value


def _boolean(field: FieldDescriptor, kind: str, texts: Sequence[str], negative: bool) -> bool:
    if kind == "string" or negative or texts[0] not in _BOOLS:
        raise _wrong(field, texts, negative, "true or false")
    return _BOOLS[texts[0]]


def _enum(field: FieldDescriptor, kind: str, texts: Sequence[str], negative: bool) -> int:
    values = field.enum_type.values_by_name
    number = _whole(kind, texts[0])
    if number is not None:
        number = -number if negative else number
        if number in field.enum_type.values_by_number:
            return number
    elif kind == "word" and not negative and texts[0] in values:
        return values[texts[0]].number
    word = texts[0].strip("\"'")
    expected = f"one of {', '.join(values)}" + (", without quotes" if kind == "string" and word in values else "")
    hint = nearest(word, values)
    raise _wrong(field, texts, negative, expected + (f"; {hint}" if hint else ""))


def _text(field: FieldDescriptor, kind: str, texts: Sequence[str], negative: bool) -> str | bytes:
    if kind != "string" or negative:
        raise _wrong(field, texts, negative, "a string in quotes")
    try:
        data = b"".join(_unescape(text[1:-1]) for text in texts)
    except KeyError as escape:
        raise ScalarError(
            f"found the escape \\{escape.args[0]} in {field.name!r}; expected a known one, as \\n or \\x41 "
            "(\\\\ is a backslash itself; a path is written with /)"
        ) from None
    if field.type == _F.TYPE_BYTES:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        found = repr(data.decode(errors="backslashreplace"))
        raise ScalarError(f"found {found} for {field.name!r}; expected text in UTF-8: save the file as that") from None


def _unescape(text: str) -> bytes:
    """The bytes that a string stands for. Raises KeyError for an escape that there is none."""
    parts = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts += [_bytes(text[end : match.start()]), _escaped(match.group(1))]
        end = match.end()
    return b"".join([*parts, _bytes(text[end:])])


def _bytes(text: str) -> bytes:
    """As in the file, whatever its encoding."""
    return text.encode("utf-8", "surrogateescape")


def _escaped(code: str) -> bytes:
    if code[0] in "01234567":
        return bytes([int(code, 8) & 255])
    if len(code) == 1:
        return bytes([_SIMPLE[code]])
    number = int(code[1:], 16)
    return bytes([number]) if code[0] == "x" else chr(number).encode("utf-8", "surrogatepass")


_READERS: dict[int, Callable[..., int | float | bool | str | bytes]] = {
    **dict.fromkeys(_LIMITS, _integer),
    _F.CPPTYPE_FLOAT: _real,
    _F.CPPTYPE_DOUBLE: _real,
    _F.CPPTYPE_BOOL: _boolean,
    _F.CPPTYPE_ENUM: _enum,
    _F.CPPTYPE_STRING: _text,
}
