"""Which dialect wrote a binary layer: told by its type and by the field numbers it uses.

Most messages parse without an error as another dialect's, so nothing here depends on a failed parse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from prototxt import caffe_pb2
from prototxt.dialects import DIALECTS, FIRST_DECONVNET_TYPE, TYPES
from prototxt.renumber import BLOB, meaning
from prototxt.wire import VARINT, Buffer, Field, fields, read_varint

Evidence = frozenset[str]

_LAYER = caffe_pb2.LayerParameter.DESCRIPTOR
_V1_LAYER = caffe_pb2.V1LayerParameter.DESCRIPTOR
_LOSS = caffe_pb2.LossParameter.DESCRIPTOR

#: Of several dialects that fit, the first is taken: SegNet's own where nothing speaks against it.
PREFERENCE = ("segnet", "bvlc", "enet", "cudnn5", "crf", "deeplab", "deconvnet")


def layer_evidence(buffer: Buffer, start: int, end: int, message: Descriptor) -> Iterator[Evidence]:
    """For what is telling about the layer in ``buffer[start:end]``: the dialects it fits. Raises BrokenWire."""
    content = list(fields(buffer, start, end))
    if message is _LAYER:
        yield from _v2_evidence(buffer, content)
    else:
        yield from _evidence(buffer, content, message)
        number = _V1_LAYER.fields_by_name["type"].number
        values = [_integer(buffer, field) for field in content if field.number == number and field.wire_type == VARINT]
        if values and values[-1] >= FIRST_DECONVNET_TYPE:
            yield frozenset({"deconvnet"})


def net_evidence(field: Field) -> Iterator[Evidence]:
    """The same for a field of the NetParameter itself, not looking inside."""
    for knowing in _meanings(field, caffe_pb2.NetParameter.DESCRIPTOR, DIALECTS).values():
        if len(knowing) < len(DIALECTS):
            yield frozenset(knowing)


def best(evidence: Iterable[Evidence], among: Iterable[str] = DIALECTS) -> str:
    """The dialect that the evidence leaves, or most of it where it contradicts itself, and that is preferred."""
    votes = Counter(dialect for able in evidence for dialect in able)
    return max((d for d in PREFERENCE if d in set(among)), key=lambda d: votes[d])


def _v2_evidence(buffer: Buffer, content: list[Field]) -> Iterator[Evidence]:
    layer_type = _text(buffer, content, _LAYER.fields_by_name["type"].number)
    able = TYPES.get(layer_type, frozenset(DIALECTS))
    if layer_type in TYPES:
        yield able
    for field in content:
        by_meaning = _meanings(field, _LAYER, able)
        for declared, knowing in by_meaning.items():
            # Forks give one number to different parameters: only the layer's type tells which one it is.
            own = declared.name.removesuffix("_param").replace("_", "") == layer_type.lower()
            everyone = len(by_meaning) == 1 and len(knowing) == len(able)
            if own and not everyone:
                yield frozenset(knowing)
            if own or everyone:
                yield from _inside(buffer, field, declared)


def _evidence(buffer: Buffer, content: list[Field], message: Descriptor) -> Iterator[Evidence]:
    if message is _LOSS:
        yield from _loss_evidence(buffer, content)
    for field in content:
        by_meaning = _meanings(field, message, DIALECTS)
        if len(by_meaning) != 1:
            continue
        ((declared, knowing),) = by_meaning.items()
        if len(knowing) < len(DIALECTS):
            yield frozenset(knowing)
        yield from _inside(buffer, field, declared)


def _inside(buffer: Buffer, field: Field, declared: FieldDescriptor) -> Iterator[Evidence]:
    if declared.message_type not in (None, BLOB):
        content = list(fields(buffer, field.body, field.end))
        yield from _evidence(buffer, content, declared.message_type)


def _loss_evidence(buffer: Buffer, content: list[Field]) -> Iterator[Evidence]:
    """Field 3 is SegNet's bool weight_by_label_freqs, and BVLC's enum normalization."""
    ours = {name: _LOSS.fields_by_name[name] for name in ("weight_by_label_freqs", "normalization", "class_weighting")}
    found: dict[FieldDescriptor, list[Field]] = {}
    for field in content:
        for declared in _meanings(field, _LOSS, DIALECTS):
            found.setdefault(declared, []).append(field)
    for field in found.get(ours["weight_by_label_freqs"], ()):
        value = _integer(buffer, field)
        # SegNet's loss demands class weights with it, so that a lone true is a mode.
        if value > 1 or (value == 1 and ours["class_weighting"] not in found):
            enums = _meanings(field, _LOSS, DIALECTS).get(ours["normalization"], set())
            yield frozenset(enums)


def _meanings(field: Field, message: Descriptor, able: Iterable[str]) -> dict[FieldDescriptor, set[str]]:
    """The fields that this one may be, each with the dialects where it is that."""
    found: dict[FieldDescriptor, set[str]] = {}
    for dialect in able:
        declared = meaning(field, message, dialect)
        if declared is not None:
            found.setdefault(declared, set()).add(dialect)
    return found


def _text(buffer: Buffer, content: list[Field], number: int) -> str:
    texts = [bytes(buffer[f.body : f.end]) for f in content if f.number == number and f.wire_type != VARINT]
    return texts[-1].decode("utf-8", "replace") if texts else ""


def _integer(buffer: Buffer, field: Field) -> int:
    return read_varint(buffer, field.body, field.end)[0]
