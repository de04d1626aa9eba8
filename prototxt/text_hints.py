"""What somebody may have meant by a field that its message does not have, and what a file is that is no prototxt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from google.protobuf.descriptor import Descriptor

from prototxt.caffe_pb2 import NetParameter, SolverParameter
from prototxt.errors import nearest
from prototxt.recognise import explain, layer_message
from prototxt.wire import walk

_FILES = {NetParameter.DESCRIPTOR: "a net", SolverParameter.DESCRIPTOR: "a solver"}
_FEW = 12
_HEAD = 4096
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")
_TEXT_TO_CONTROL = 50  # a text may hold a stray control character, which is then told with its place
_DOWNLOADED_INSTEAD = (b"<", b"version https://git-lfs")


def unknown_field(name: str, message: Descriptor, around: Sequence[Descriptor]) -> str:
    """The remedy for a field that ``message`` does not have; ``around``: the messages it lies in, outermost first."""
    within = [
        field.name for field in message.fields if field.message_type and name in field.message_type.fields_by_name
    ]
    if within:
        first = ", ".join(f"`{one}`" for one in within[:4]) + (", …" if len(within) > 4 else "")
        return f"it belongs into {first}"
    outer = next((other for other in reversed(around) if name in other.fields_by_name), None)
    if outer is not None:
        return f"it belongs into the {outer.name} around it"
    if hint := nearest(name, message.fields_by_name):
        return hint
    if len(message.fields) <= _FEW:
        return f"expected {', '.join(message.fields_by_name)}"
    return "remove it"


def other_file(names: Iterable[str], wanted: Descriptor) -> str | None:
    """What is wrong with a text whose outermost fields are ``names``, if it is another kind of file than wanted."""
    fitting = [message for message in _FILES if set(names) <= set(message.fields_by_name)]
    if wanted not in _FILES or not fitting or wanted in fitting:
        return None
    return f"the prototxt of {_FILES[fitting[0]]}; expected that of {_FILES[wanted]}"


def other_format(data: memoryview) -> str | None:
    """What a file's bytes are that are no prototxt, and what to do; None for text."""
    head = bytes(data[:_HEAD])
    if not head:
        return "empty (0 bytes); copy or download it again"
    binary = b"\0" in head or len(_CONTROL.findall(head)) * _TEXT_TO_CONTROL > len(head)
    if not binary and not head.lstrip().startswith(_DOWNLOADED_INSTEAD):
        return None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16; save it as UTF-8"
    found, error = walk(data)
    if binary and any(layer_message(field) for field in found):
        return (
            "a binary file, as weights are (.caffemodel); expected a prototxt, which is text. Weights go where they "
            "are asked for, as in Net(prototxt, weights, phase)"
        )
    what = explain(data, found, error, "a prototxt, which is text")
    return f"a binary file: {what}" if binary else what
