"""From the first generation of nets (V0: `layers { layer { … } }`) to the second (Caffe: UpgradeV0Net)."""

from __future__ import annotations

import logging

from prototxt.caffe_pb2 import NetParameter, V0LayerParameter, V1LayerParameter
from prototxt.errors import FormatError

log = logging.getLogger(__name__)

#: type in V0 → type in V1, and V1's message for what the type's own fields become.
_TYPES = {
    "accuracy": ("ACCURACY", ""),
    "bnll": ("BNLL", ""),
    "concat": ("CONCAT", "concat_param"),
    "conv": ("CONVOLUTION", "convolution_param"),
    "data": ("DATA", "data_param"),
    "dropout": ("DROPOUT", "dropout_param"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", ""),
    "flatten": ("FLATTEN", ""),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": ("HDF5_OUTPUT", ""),
    "im2col": ("IM2COL", ""),
    "images": ("IMAGE_DATA", "image_data_param"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", ""),
    "pool": ("POOLING", "pooling_param"),
    "relu": ("RELU", ""),
    "sigmoid": ("SIGMOID", ""),
    "softmax": ("SOFTMAX", ""),
    "softmax_loss": ("SOFTMAX_LOSS", ""),
    "split": ("SPLIT", ""),
    "tanh": ("TANH", ""),
    "window_data": ("WINDOW_DATA", "window_data_param"),
}

#: V0's field → its name in V1's message, and the types that have it.
_MOVES = {
    "num_output": ("num_output", "conv innerproduct"),
    "biasterm": ("bias_term", "conv innerproduct"),
    "weight_filler": ("weight_filler", "conv innerproduct"),
    "bias_filler": ("bias_filler", "conv innerproduct"),
    "pad": ("pad", "conv pool"),
    "kernelsize": ("kernel_size", "conv pool"),
    "stride": ("stride", "conv pool"),
    "group": ("group", "conv"),
    "pool": ("pool", "pool"),
    "dropout_ratio": ("dropout_ratio", "dropout"),
    "local_size": ("local_size", "lrn"),
    "alpha": ("alpha", "lrn"),
    "beta": ("beta", "lrn"),
    "k": ("k", "lrn"),
    "concat_dim": ("concat_dim", "concat"),
    "source": ("source", "data hdf5_data images window_data infogain_loss"),
    "batchsize": ("batch_size", "data hdf5_data images window_data"),
    "rand_skip": ("rand_skip", "data images"),
    "shuffle_images": ("shuffle", "images"),
    "new_height": ("new_height", "images"),
    "new_width": ("new_width", "images"),
    "det_fg_threshold": ("fg_threshold", "window_data"),
    "det_bg_threshold": ("bg_threshold", "window_data"),
    "det_fg_fraction": ("fg_fraction", "window_data"),
    "det_context_pad": ("context_pad", "window_data"),
    "det_crop_mode": ("crop_mode", "window_data"),
}
_TRANSFORMS = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}


def upgrade_v0(net: NetParameter) -> tuple[NetParameter, list[int]]:
    """The net in V1, and for each of its layers the index of the layer it was.

    `padding` layers go: the convolution or pooling that reads one takes its pad and its bottom. As in Caffe, a field
    that a layer's type does not have is left out, with a warning.

    Raises:
        FormatError: a layer of an unknown type, or padding for another layer than a convolution or pooling.
    """
    problems: list[str] = []
    paddings: dict[str, V1LayerParameter] = {}
    upgraded = NetParameter()
    upgraded.CopyFrom(net)
    del upgraded.layers[:]
    origins = []
    for index, old in enumerate(net.layers):
        if old.layer.type == "padding":
            if len(old.bottom) == 1 and old.bottom[0] not in paddings:
                paddings.update(dict.fromkeys(old.top, old))
            else:
                found = f"{len(old.bottom)} bottoms" if len(old.bottom) != 1 else "a bottom that is padded already"
                problems.append(f"layer {old.layer.name!r} (padding): found {found}; expected one, not padded")
            continue
        layer = upgraded.layers.add()
        origins.append(index)
        layer.top.extend(old.top)
        layer.bottom.extend(old.bottom)
        source = _unpadded(old, paddings, layer, problems)
        for top in old.top:  # from here on the name means another blob
            paddings.pop(top, None)
        _upgrade_layer(source, layer, problems)
    if problems:
        raise FormatError(problems)
    return upgraded, origins


def _unpadded(
    old: V1LayerParameter,
    paddings: dict[str, V1LayerParameter],
    layer: V1LayerParameter,
    problems: list[str],
) -> V0LayerParameter:
    """The layer with the pad of the padding layer that it reads, if it reads one."""
    source = V0LayerParameter()
    source.CopyFrom(old.layer)
    for i, bottom in enumerate(old.bottom):
        padding = paddings.get(bottom)
        if padding is None:
            continue
        if source.type not in ("conv", "pool") or len(old.bottom) != 1:
            problems.append(
                f"layer {source.name!r} ({source.type}): reads the padding layer {padding.layer.name!r}; "
                "expected a conv or pool layer with one bottom there"
            )
            continue
        source.pad = padding.layer.pad
        layer.bottom[i] = padding.bottom[0]
    return source


def _upgrade_layer(source: V0LayerParameter, layer: V1LayerParameter, problems: list[str]) -> None:
    if source.HasField("name"):
        layer.name = source.name
    layer.blobs.extend(source.blobs)
    layer.blobs_lr.extend(source.blobs_lr)
    layer.weight_decay.extend(source.weight_decay)
    if not source.HasField("type"):
        return
    if source.type not in _TYPES:
        problems.append(f"layer {source.name!r}: unknown V0 type {source.type!r}; expected one of {', '.join(_TYPES)}")
        return
    type_name, own = _TYPES[source.type]
    layer.type = V1LayerParameter.LayerType.Value(type_name)
    for field, value in source.ListFields():
        new_name, types = _MOVES.get(field.name, ("", ""))
        if field.name in _TRANSFORMS:
            setattr(layer.transform_param, _TRANSFORMS[field.name], value)
        elif field.name == "hdf5_output_param" and source.type == "hdf5_output":
            layer.hdf5_output_param.CopyFrom(value)
        elif source.type in types.split():
            _assign(getattr(layer, own), new_name, value)
        elif field.name not in ("name", "type", "blobs", "blobs_lr", "weight_decay"):
            log.warning("layer %r: `%s` is left out, a %s layer has none", source.name, field.name, source.type)


def _assign(message: object, name: str, value: object) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.is_repeated:
        getattr(message, name).append(value)
    elif field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
