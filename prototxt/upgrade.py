"""Nets and solvers of older generations in the current one (Caffe: upgrade_proto). What is given stays as it is."""

from __future__ import annotations

import logging

from prototxt.caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V1LayerParameter
from prototxt.errors import FormatError
from prototxt.upgrade_v0 import upgrade_v0

log = logging.getLogger(__name__)

#: Types that V2 does not call by V1's name in another spelling.
_TYPES = {
    "BN": "BN",
    "BNLL": "BNLL",
    "LRN": "LRN",
    "MVN": "MVN",
    "IM2COL": "Im2col",
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "RELU": "ReLU",
    "TANH": "TanH",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "RED_SOFTMAX_LOSS": "RedSoftmaxWithLoss",
    "BIN_ACCURACY": "BinaryAccuracy",
}
#: V1's data layers → the message that held what is now in transform_param.
_TRANSFORMED = {
    V1LayerParameter.DATA: "data_param",
    V1LayerParameter.IMAGE_DATA: "image_data_param",
    V1LayerParameter.WINDOW_DATA: "window_data_param",
}
_TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")
_PER_BLOB = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
_SOLVERS = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


def to_current(net: NetParameter, dialect: str = "segnet") -> NetParameter:
    """The net in the current generation. Raises as ``upgrade_net``."""
    return upgrade_net(net, dialect)[0]


def upgrade_net(net: NetParameter, dialect: str = "segnet") -> tuple[NetParameter, list[int | None]]:
    """The net in the current generation, as a dialect's Caffe holds it after reading.

    Args:
        net: of any generation.
        dialect: BVLC Caffe also makes an Input layer of ``input`` and fixes the parameters of BatchNorm.

    Returns:
        The net, and for each of its layers the index among ``layer`` or ``layers`` as written, or None for a new one.

    Raises:
        FormatError: what V0 does not allow, all of it.
    """
    origins: list[int | None] = list(range(len(net.layers) or len(net.layer)))
    if net.layers:
        if net.layer:  # Caffe, UpgradeV1Net: an older generation in the file decides
            log.warning("%d `layer` are ignored beside `layers` of the older generation", len(net.layer))
        if any(layer.HasField("layer") for layer in net.layers):
            net, origins = upgrade_v0(net)
        net = _from_v1(net)
    if dialect == "bvlc":
        net, made = _with_input_layer(net)
        origins = [None] * made + origins
        net = _with_fixed_batch_norm(net)
    return net, origins


def upgrade_solver(solver: SolverParameter) -> SolverParameter:
    """The solver with its ``type`` in words instead of ``solver_type``.

    Raises:
        FormatError: both are given.
    """
    upgraded = SolverParameter()
    upgraded.CopyFrom(solver)
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise FormatError("both `type` and the old `solver_type` are given; expected one of them")
        upgraded.type = _SOLVERS[solver.solver_type]
        upgraded.ClearField("solver_type")
    return upgraded


def _from_v1(net: NetParameter) -> NetParameter:
    upgraded = NetParameter()
    upgraded.CopyFrom(net)
    del upgraded.layer[:], upgraded.layers[:]
    upgraded.layer.extend(_layer_from_v1(layer) for layer in net.layers)
    return upgraded


def _layer_from_v1(old: V1LayerParameter) -> LayerParameter:
    layer = LayerParameter()
    if old.HasField("type"):
        name = V1LayerParameter.LayerType.Name(old.type)
        layer.type = _TYPES.get(name, name.title().replace("_", ""))
    for field, value in old.ListFields():
        if field.name in _PER_BLOB:
            for i, one in enumerate(value):
                if i == len(layer.param):
                    layer.param.add()
                setattr(layer.param[i], _PER_BLOB[field.name], one)
        elif field.is_repeated:
            getattr(layer, field.name).extend(value)
        elif field.message_type is not None and field.name != "layer":
            getattr(layer, field.name).CopyFrom(value)
        elif field.name == "name":
            layer.name = value
    if old.type in _TRANSFORMED:
        _move_transforms(layer, _TRANSFORMED[old.type])
    return layer


def _move_transforms(layer: LayerParameter, name: str) -> None:
    """Scale, mean, crop and mirror once stood in the data layers' own messages."""
    if not layer.HasField(name):
        return
    message = getattr(layer, name)
    for field in _TRANSFORMS:
        if message.HasField(field):
            setattr(layer.transform_param, field, getattr(message, field))
            message.ClearField(field)


def _with_input_layer(net: NetParameter) -> tuple[NetParameter, int]:
    """``input`` and its shapes as an Input layer in front, and how many layers were added."""
    by_dims = [net.input_dim[i : i + 4] for i in range(0, len(net.input_dim), 4)]
    shapes = [shape.dim for shape in net.input_shape] or by_dims
    if not net.input or len(shapes) != len(net.input) or any(len(dims) != 4 for dims in by_dims):
        return net, 0  # what is wrong with it is told where shapes are needed
    upgraded = NetParameter()
    upgraded.CopyFrom(net)
    for name in ("input", "input_shape", "input_dim", "layer"):
        upgraded.ClearField(name)
    made = upgraded.layer.add(name="input", type="Input", top=net.input)
    for dims in shapes:
        made.input_param.shape.add(dim=dims)
    upgraded.layer.extend(net.layer)
    return upgraded, 1


def _with_fixed_batch_norm(net: NetParameter) -> NetParameter:
    """Three ``param`` of a BatchNorm once said that its statistics are not learnt; now they always say so."""
    upgraded = NetParameter()
    upgraded.CopyFrom(net)
    for layer in upgraded.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0
    return upgraded
