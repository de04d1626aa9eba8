"""One message on the wire, from the field numbers of one dialect to those of another or of this project's schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from prototxt import caffe_pb2
from prototxt.dialects import SUPERSET, WIRE
from prototxt.wire import LENGTH, Buffer, Field, Piece, fields, fits, length_field, tag

#: Stands for a dialect where the numbers are those of caffe.proto.
OURS = "caffe.proto"

BLOB = caffe_pb2.BlobProto.DESCRIPTOR

# A field that a dialect does not know is kept in our messages under its number plus this, since caffe.proto may use
# the number itself for another dialect's field.
_UNKNOWN = 1 << 28

_MESSAGES = caffe_pb2.DESCRIPTOR.message_types_by_name
_IDENTITY = {name: {f.number: f.number for f in message.fields} for name, message in _MESSAGES.items()}
_TO_OURS: Mapping[str, Mapping[str, Mapping[int, int]]] = {**SUPERSET, OURS: _IDENTITY}
_FROM_OURS: Mapping[str, Mapping[str, Mapping[int, int]]] = {**WIRE, OURS: _IDENTITY}

#: What becomes of a blob's bytes ``buffer[start:end]``: the pieces to write in their place.
OnBlob = Callable[[Buffer, int, int], list[Piece]]


def meaning(field: Field, message: Descriptor, dialect: str) -> FieldDescriptor | None:
    """The field of ``message`` that this is in a dialect; None if the dialect does not know it."""
    number = _TO_OURS[dialect].get(message.name, {}).get(field.number)
    if number is None:
        return None
    declared = message.fields_by_number[number]
    return declared if fits(field, declared) else None


def rewrite(
    buffer: Buffer,
    start: int,
    end: int,
    message: Descriptor,
    source: str,
    target: str,
    on_blob: OnBlob,
    lost: list[str],
) -> list[Piece]:
    """The message in ``buffer[start:end]``, numbered as ``source``, in pieces numbered as ``target``.

    Where the numbers change, fields come in the order of the new numbers, unknown ones last, as protocol buffers
    write them; otherwise order and bytes stay. Fields that ``target`` does not know are left out and named in
    ``lost``. Raises BrokenWire.
    """
    known: list[tuple[int, list[Piece]]] = []
    unknown: list[tuple[int, list[Piece]]] = []
    for field in fields(buffer, start, end):
        declared = meaning(field, message, source)
        if declared is None:
            number = _unknown_number(field, message, target)
            if number is None:
                lost.append(f"field {field.number} (unknown to {source}, something else in {target})")
                continue
        else:
            number = _FROM_OURS[target].get(message.name, {}).get(declared.number)
            if number is None:
                lost.append(declared.name)
                continue
        content = _content(buffer, field, declared, source, target, on_blob, lost)
        if content is None and number == field.number:
            encoded: list[Piece] = [buffer[field.start : field.end]]
        elif content is None and field.wire_type == LENGTH:
            encoded = length_field(number, [buffer[field.body : field.end]])
        elif content is None:
            encoded = [tag(number, field.wire_type), buffer[field.body : field.end]]
        else:
            encoded = length_field(number, content)
        ordered = known if source == target or declared is not None else unknown
        ordered.append((number, encoded))
    if source != target:
        known.sort(key=lambda entry: entry[0])
    return [piece for _, encoded in (*known, *unknown) for piece in encoded]


def _unknown_number(field: Field, message: Descriptor, target: str) -> int | None:
    """Under which number a field without a meaning is kept; None if it would have another meaning there."""
    number = field.number
    if number - _UNKNOWN in message.fields_by_number:
        number -= _UNKNOWN
    if meaning(field._replace(number=number), message, target) is None:
        return number
    return number + _UNKNOWN if target == OURS else None


def _content(
    buffer: Buffer,
    field: Field,
    declared: FieldDescriptor | None,
    source: str,
    target: str,
    on_blob: OnBlob,
    lost: list[str],
) -> list[Piece] | None:
    """The new content of a field; None if it stays what it is."""
    if declared is None:
        return None
    if declared.message_type is BLOB:
        return on_blob(buffer, field.body, field.end)
    if declared.message_type is not None:
        inner: list[str] = []
        pieces = rewrite(buffer, field.body, field.end, declared.message_type, source, target, on_blob, inner)
        lost.extend(f"{declared.name}.{name}" for name in inner)
        return pieces
    if declared.type == FieldDescriptor.TYPE_STRING and target == OURS:
        # Caffe reads text of any encoding, Python's protocol buffers only UTF-8.
        text = bytes(buffer[field.body : field.end])
        try:
            text.decode()
        except UnicodeDecodeError:
            return [text.decode("latin-1").encode()]
    return None
