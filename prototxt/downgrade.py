"""A layer of the current generation as one of V1, for forks of Caffe that know nothing newer (DeconvNet's).

The way back of Caffe's UpgradeV1LayerParameter.
"""

from __future__ import annotations

from prototxt import caffe_pb2
from prototxt.caffe_pb2 import LayerParameter, V1LayerParameter

_TYPE = V1LayerParameter.DESCRIPTOR.enum_types_by_name["LayerType"]
_FIELDS = V1LayerParameter.DESCRIPTOR.fields_by_name
# V1 spells most types in capitals; these have a name of their own.
_OWN_NAMES = {
    "softmaxwithloss": "SOFTMAX_LOSS",
    "redsoftmaxwithloss": "RED_SOFTMAX_LOSS",
    "binaryaccuracy": "BIN_ACCURACY",
}
_TYPES = {value.name.replace("_", "").lower(): value.number for value in _TYPE.values} | {
    ours: _TYPE.values_by_name[theirs].number for ours, theirs in _OWN_NAMES.items()
}
# `param` becomes four lists; V1 nets tell the phase by `include` alone.
_SPECIAL = {"type", "param", "phase", "blobs"}


def to_v1(layer: LayerParameter, lost: list[str]) -> V1LayerParameter:
    """The layer in V1, blobs included; what V1 has no field for is named in ``lost``."""
    old = V1LayerParameter()
    old.blobs.extend(layer.blobs)
    number = _TYPES.get(layer.type.lower())
    if number is not None:
        old.type = number
    elif layer.type:
        lost.append(f"type {layer.type}")
    _set_param(old, layer)
    for field, value in layer.ListFields():
        if field.name in _SPECIAL:
            continue
        if field.name not in _FIELDS:
            lost.append(field.name)
        elif field.is_repeated:
            getattr(old, field.name).extend(value)
        elif field.message_type is not None:
            getattr(old, field.name).CopyFrom(value)
        else:
            setattr(old, field.name, value)
    return old


def _set_param(old: V1LayerParameter, layer: LayerParameter) -> None:
    """One list per property, with an entry for every ``param`` if any of them has the property."""
    for name, values in (("lr_mult", old.blobs_lr), ("decay_mult", old.weight_decay), ("name", old.param)):
        if any(param.HasField(name) for param in layer.param):
            values.extend(getattr(param, name) for param in layer.param)
    if any(param.HasField("share_mode") for param in layer.param):
        same = caffe_pb2.V1LayerParameter.DimCheckMode.Value
        old.blob_share_mode.extend(
            same(caffe_pb2.ParamSpec.DimCheckMode.Name(param.share_mode)) for param in layer.param
        )
