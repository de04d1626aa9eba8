"""Protocol buffers at the level of bytes: walking a buffer field by field without copying it, and writing fields.

Source of the encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from prototxt.errors import FormatError

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}

Buffer = memoryview
#: What a message is written in: pieces that are never joined, so that arrays are not copied.
Piece = bytes | memoryview

_F = FieldDescriptor
_NATIVE = {
    **dict.fromkeys((_F.TYPE_DOUBLE, _F.TYPE_FIXED64, _F.TYPE_SFIXED64), FIXED64),
    **dict.fromkeys((_F.TYPE_FLOAT, _F.TYPE_FIXED32, _F.TYPE_SFIXED32), FIXED32),
    **dict.fromkeys((_F.TYPE_STRING, _F.TYPE_BYTES, _F.TYPE_MESSAGE), LENGTH),
    _F.TYPE_GROUP: GROUP,
}


class Field(NamedTuple):
    """One field of a message in a buffer, by byte offsets: tag from ``start``, content from ``body`` up to ``end``."""

    number: int
    wire_type: int
    start: int
    body: int
    end: int


class BrokenWire(FormatError):
    """The bytes from ``offset`` on are no protocol buffer, or end too early."""

    def __init__(self, offset: int, problem: str, expected: int | None = None, found: int | None = None) -> None:
        super().__init__(f"byte {offset}: {problem}")
        self.offset, self.problem = offset, problem
        self.expected, self.found = expected, found

    @property
    def truncated(self) -> bool:
        """Whether bytes are missing, rather than being wrong."""
        return self.expected is not None


def read_varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number that starts at ``at`` and the offset behind it. Raises BrokenWire."""
    value = 0
    for count, position in enumerate(range(at, min(end, at + 10))):
        byte = buffer[position]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + 1
    if end - at < 10:
        raise BrokenWire(at, "the bytes end within a number", expected=end - at + 1, found=end - at)
    raise BrokenWire(at, "a number of more than ten bytes")


def fields(buffer: Buffer, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message in ``buffer[start:end]``, in the order of the bytes. Raises BrokenWire."""
    end = len(buffer) if end is None else end
    at = start
    while at < end:
        field = read_field(buffer, at, end)
        yield field
        at = field.end


def walk(buffer: Buffer) -> tuple[list[Field], BrokenWire | None]:
    """The fields of the message in ``buffer``, up to what cannot be read, if anything."""
    found: list[Field] = []
    try:
        for field in fields(buffer):
            found.append(field)
    except BrokenWire as error:
        return found, error
    return found, None


def read_field(buffer: Buffer, at: int, end: int) -> Field:
    """The field whose tag starts at ``at``, in a message that goes up to ``end``. Raises BrokenWire."""
    tag, body = read_varint(buffer, at, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise BrokenWire(at, f"field number {number}, which no message can have")
    if wire_type == VARINT:
        return Field(number, wire_type, at, body, read_varint(buffer, body, end)[1])
    if wire_type == LENGTH:
        length, body = read_varint(buffer, body, end)
    elif wire_type == GROUP:
        return Field(number, wire_type, at, body, _end_of_group(buffer, at, body, end))
    elif wire_type in _FIXED_SIZE:
        length = _FIXED_SIZE[wire_type]
    else:
        raise BrokenWire(at, f"field {number} has wire type {wire_type}, which cannot stand here")
    if length > end - body:
        problem = f"field {number} should have {length} bytes, only {end - body} are there"
        raise BrokenWire(body, problem, expected=length, found=end - body)
    return Field(number, wire_type, at, body, body + length)


def _end_of_group(buffer: Buffer, start: int, at: int, end: int) -> int:
    depth = 1
    while at < end:
        tag, behind = read_varint(buffer, at, end)
        if tag & 7 == END_GROUP or tag & 7 == GROUP:
            depth += 1 if tag & 7 == GROUP else -1
            at = behind
            if not depth:
                return at
        else:
            at = read_field(buffer, at, end).end
    raise BrokenWire(start, "a group that does not end", expected=end - start + 1, found=end - start)


def fits(field: Field, declared: FieldDescriptor) -> bool:
    """Whether a field on the wire has the wire type its declaration asks for, packed or not."""
    native = _NATIVE.get(declared.type, VARINT)
    return field.wire_type == native or (field.wire_type == LENGTH and declared.is_repeated and native != GROUP)


def varint(value: int) -> bytes:
    """``value`` (0 or more) as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def tag(number: int, wire_type: int) -> bytes:
    """The tag of a field."""
    return varint(number << 3 | wire_type)


def size_of(pieces: Iterable[Piece]) -> int:
    """Number of bytes in the pieces."""
    return sum(len(piece) for piece in pieces)


def length_field(number: int, pieces: list[Piece]) -> list[Piece]:
    """A field with a length (text, message, packed numbers) around ``pieces``, which are not copied."""
    return [tag(number, LENGTH) + varint(size_of(pieces)), *pieces]


def number_field(number: int, value: int) -> bytes:
    """A field with an int32 or int64; negative ones take ten bytes."""
    return tag(number, VARINT) + varint(value & 0xFFFFFFFFFFFFFFFF)
