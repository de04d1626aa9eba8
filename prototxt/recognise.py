"""What a file is that was given as weights but is something else, and what to do about it.

Most of these are what users of Caffe's model zoo ended up with: a pointer instead of the file, a web page instead of
the file, half a file, the archive around the file, or the other file of the pair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from google.protobuf.descriptor import Descriptor

from prototxt import caffe_pb2
from prototxt.wire import LENGTH, VARINT, BrokenWire, Buffer, Field, fits, read_field, read_varint

_NET = caffe_pb2.NetParameter.DESCRIPTOR
_HEAD = 4096
_TEXT_MODEL = re.compile(
    r"^\s*(name|layers?|input|input_dim|input_shape|state|force_backward|debug_info)\s*[:{]", re.MULTILINE
)
_TEXT_SOLVER = re.compile(r"^\s*(net|train_net|base_lr|lr_policy|max_iter|snapshot_prefix)\s*:", re.MULTILINE)

_ARCHIVE = "archive, which has to be unpacked"
_TORCH = "a PyTorch file (for torch.load)"

# First bytes of files that are not Caffe's: (offset, bytes, what it is).
_SIGNATURES: Sequence[tuple[int, bytes, str]] = (
    (0, b"\x1f\x8b", f"a gzip {_ARCHIVE}"),
    (0, b"BZh", f"a bzip2 {_ARCHIVE}"),
    (0, b"\xfd7zXZ\0", f"an xz {_ARCHIVE}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z {_ARCHIVE}"),
    (0, b"Rar!\x1a\x07", f"a RAR {_ARCHIVE}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd {_ARCHIVE}"),
    (257, b"ustar", f"a tar {_ARCHIVE}"),
    (0, b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", _TORCH),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x93NUMPY", "a numpy array"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, which prototxt.weights_h5.read_weights reads if Caffe wrote it"),
)

SINGLE_BLOB = "a single blob (a mean image, .binaryproto)"
SOLVER_STATE = "a solver state (.solverstate); its weights are in the .caffemodel of the same iteration"

# Other messages of Caffe: (message, fields that it surely has, what it is).
_MESSAGES = (
    (caffe_pb2.SolverState, {"iter", "history"}, SOLVER_STATE),
    (caffe_pb2.SolverState, {"iter", "learned_net"}, SOLVER_STATE),
    (caffe_pb2.BlobProto, {"data"}, SINGLE_BLOB),
    (caffe_pb2.BlobProto, {"double_data"}, SINGLE_BLOB),
)


def explain(
    buffer: Buffer, good: Sequence[Field], error: BrokenWire | None, wanted: str = "a .caffemodel or .caffemodel.h5"
) -> str:
    """What ``buffer`` is, given that it is not what was ``wanted``, and what to do.

    ``good``: the fields that could be walked before ``error``.
    """
    head = bytes(buffer[:_HEAD])
    if not head:
        return "empty (0 bytes); copy or download it again"
    if broken_download := _pointer(head) or _web_page(head):
        return broken_download
    if what := _other_format(head, buffer) or (error and _text(head)) or another_message(good):
        return f"{what}; give {wanted}"
    if error is None:
        return f"a message with neither layers nor values; give {wanted}"
    return _cut_off(buffer, good, error) or f"not Caffe's (byte {error.offset}: {error.problem}); give {wanted}"


def _cut_off(buffer: Buffer, good: Sequence[Field], error: BrokenWire) -> str | None:
    """For a NetParameter that ends early: within which layer, how many bytes should be there and are."""
    advice = "copy or download it again"
    layers = [field for field in good if layer_message(field)]
    if not error.truncated:
        return f"damaged at byte {error.offset}: {error.problem}; {advice}" if layers else None
    start = good[-1].end if good else 0
    declared = None
    place = f"a field that begins at byte {start}"
    with suppress(BrokenWire):
        tag, at = read_varint(buffer, start, len(buffer))
        declared = _NET.fields_by_number.get(tag >> 3)
        if message := layer_message(Field(tag >> 3, tag & 7, start, at, at)):
            length, body = read_varint(buffer, at, len(buffer))
            place = layer_label(buffer, body, len(buffer), message, len(layers))
            place += f": {length} bytes expected from byte {body} on, {len(buffer) - body} found"
    of_a_net = any(f.number in _NET.fields_by_number and fits(f, _NET.fields_by_number[f.number]) for f in good)
    if declared is None and not of_a_net:
        return None
    return f"cut off: it has {len(buffer)} bytes and ends within {place}; {advice}"


def layer_label(buffer: Buffer, start: int, end: int, message: Descriptor, index: int) -> str:
    """``layer 3 'conv1'`` for the layer in ``buffer[start:end]``, of which only the first bytes need be there."""
    name = message.fields_by_name["name"].number
    at = start
    with suppress(BrokenWire):
        while at < end:
            field = read_field(buffer, at, end)
            if field.number == name and field.wire_type == LENGTH:
                return f"layer {index} {bytes(buffer[field.body : field.end]).decode('utf-8', 'replace')!r}"
            at = field.end
    return f"layer {index}"


def layer_message(field: Field) -> Descriptor | None:
    """The message of a NetParameter's field, if the field holds a layer (of V2, or of V1 and V0)."""
    declared = _NET.fields_by_number.get(field.number)
    is_layer = declared is not None and declared.name in ("layer", "layers") and field.wire_type == LENGTH
    return declared.message_type if is_layer else None


def _pointer(head: bytes) -> str | None:
    if not head.startswith(b"version https://git-lfs.github.com/spec/"):
        return None
    size = re.search(rb"^size (\d+)", head, re.MULTILINE)
    of = f" to a file of {int(size[1])} bytes" if size else ""
    return f"a git-LFS pointer{of}, not the file itself; run `git lfs pull` in its repository"


def _web_page(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start.startswith((b"<!doctype", b"<html", b"<head", b"<script", b"<?xml", b"<!--")):
        return None
    return (
        "a web page (HTML or XML), not the file itself: the download went to a page that asks something first; "
        "open the link in a browser and save the file that it leads to"
    )


def _safetensors(head: bytes) -> str | None:
    size = int.from_bytes(head[:8], "little")
    return "a safetensors file" if head[8:10] == b'{"' and size < 1 << 32 else None


def _other_format(head: bytes, buffer: Buffer) -> str | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(head + bytes(buffer[-(1 << 16) :]))
    signed = next((what for offset, magic, what in _SIGNATURES if head.startswith(magic, offset)), None)
    return signed or _safetensors(head)


def _zip(names: bytes) -> str:
    """``names``: the ends of the archive, which hold the names in it."""
    kinds = (
        (b".caffemodel", f"a zip {_ARCHIVE}"),
        (b"data.pkl", _TORCH),
        (b".npy", "a numpy .npz file"),
        (b"model.weights.h5", "a Keras model"),
    )
    return next((what for name, what in kinds if name in names), f"a zip {_ARCHIVE}")


def _text(head: bytes) -> str | None:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < _HEAD:
            return None
        text = head[: error.start].decode()
    if not text.strip() or any(ord(char) < 32 and char not in "\t\n\r" for char in text):
        return None
    if _TEXT_SOLVER.search(text) and not re.search(r"^\s*layers?\s*[:{]", text, re.MULTILINE):
        return "a solver definition in text (solver.prototxt)"
    if _TEXT_MODEL.search(text):
        return "a net definition in text (.prototxt), which has no weights"
    return f"text, beginning with {text[:40]!r}"


def another_message(found: Sequence[Field]) -> str | None:
    """Messages of Caffe and ONNX, told by their fields: all of them read as some NetParameter."""
    types = {field.number: field.wire_type for field in found}
    for message, needed, what in _MESSAGES:
        declared = message.DESCRIPTOR.fields_by_number
        names = {declared[number].name for number in types if number in declared}
        if needed <= names and all(f.number in declared and fits(f, declared[f.number]) for f in found):
            return what
    if types.get(1) == VARINT and types.get(7) == LENGTH:  # ModelProto: ir_version, graph
        return "an ONNX model"
    return None
