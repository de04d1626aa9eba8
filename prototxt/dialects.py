"""The dialects of Caffe: which field each of them writes under which number, and which of them wrote a text.

Every fork of Caffe went on numbering its new fields from the same point, so one number means different things in
different forks. caffe.proto gives every field a number of its own; this table leads to the numbers on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.message import Message

from prototxt import caffe_pb2
from prototxt.errors import CaffeError, nearest

#: name → whose fork it is. ``segnet`` is assumed where a text gives no evidence.
DIALECTS: Mapping[str, str] = {
    "segnet": "alexgkendall/caffe-segnet, the fork that SegNet was published with",
    "cudnn5": "TimoSaemann/caffe-segnet-cudnn5, the same layers on BVLC Caffe of early 2016",
    "enet": "TimoSaemann/caffe-enet, cudnn5 with ENet's changes",
    "bvlc": "BVLC/caffe 1.0",
    "deeplab": "DrSleep/deeplab-public-ver2, DeepLab v2",
    "deconvnet": "HyeonwooNoh/caffe, DeconvNet; knows no generation after V1",
    "crf": "nathanin/caffe-segnet-crf, cudnn5's fields and CRF-as-RNN",
}

_ALL = frozenset(DIALECTS)
_SEGNET_LINE = frozenset({"segnet", "cudnn5", "enet", "crf"})  # forks with SegNet's layers
_BVLC_2016 = frozenset({"bvlc", "cudnn5", "enet", "crf", "deeplab"})  # forks made after SegNet's own
_BVLC_2016_NUMBERS = _BVLC_2016 - {"deeplab"}  # DeepLab left it before the numbers from 143 on were given
_V2 = _ALL - {"deconvnet"}


def _under(number: int, dialects: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(dialects, number)


#: message → field → dialect → number on the wire, for every field that some dialect lacks or writes under another
#: number than caffe.proto. A dialect that a row leaves out does not know the field. Fields without a row are
#: written by all dialects under caffe.proto's number. (Some further forks are not told apart here: DeepNetsForEO,
#: for one, writes upsample_param under 150.)
FIELDS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "BlobProto": {
        "shape": _under(7, _V2),
        "double_data": _under(8, _BVLC_2016),
        "double_diff": _under(9, _BVLC_2016),
    },
    "NetParameter": {
        "state": _under(6, _V2),
        "debug_info": _under(7, _V2),
        "input_shape": _under(8, _V2),
        "layer": _under(100, _V2),
    },
    "SolverParameter": {
        "iter_size": _under(36, _V2) | {"deconvnet": 35},
        "clip_gradients": _under(35, _V2),
        "snapshot_format": _under(37, _BVLC_2016),
        "rms_decay": _under(38, _BVLC_2016),
        "momentum2": _under(39, _BVLC_2016),
        "type": _under(40, _BVLC_2016),
        "layer_wise_reduce": _under(41, {"bvlc", "crf"}),
        "weights": {"bvlc": 42},
    },
    "LayerParameter": {
        "bn_param": _under(45, _SEGNET_LINE),
        "upsample_param": _under(147, _SEGNET_LINE) | {"segnet": 137},
        "dense_image_data_param": _under(46, _SEGNET_LINE) | {"segnet": 138},
        "embed_param": _under(137, _BVLC_2016),
        "tile_param": _under(138, _BVLC_2016),
        "batch_norm_param": _under(139, _BVLC_2016),
        "elu_param": _under(140, _BVLC_2016),
        "bias_param": _under(141, _BVLC_2016),
        "scale_param": _under(142, _BVLC_2016),
        "input_param": _under(143, _BVLC_2016_NUMBERS),
        "crop_param": _under(144, _BVLC_2016_NUMBERS),
        "parameter_param": _under(145, _BVLC_2016_NUMBERS),
        "recurrent_param": _under(146, _BVLC_2016_NUMBERS),
        "swish_param": {"bvlc": 147},
        "clip_param": {"bvlc": 148},
        "interp_param": {"deeplab": 143},
        "seg_accuracy_param": {"deeplab": 144},
        "mat_write_param": {"deeplab": 145},
        "dense_crf_param": {"deeplab": 146},
        "domain_transform_param": {"deeplab": 147},
        "adaptive_bias_channel_param": {"deeplab": 148},
        "bias_channel_param": {"deeplab": 149},
        "unique_label_param": {"deeplab": 150},
        "mat_read_param": {"deeplab": 151},
        "multi_stage_meanfield_param": {"crf": 1000},
        # What DeconvNet's V1 fields become in V2, which DeconvNet itself cannot read.
        "eltwise_accuracy_param": {},
        "unpooling_param": {},
        "red_softmax_loss_param": {},
        "red_accuracy_param": {},
        "binary_accuracy_param": {},
        "window_cls_data_param": {},
        "select_seg_binary_param": {},
    },
    "V1LayerParameter": {
        "eltwise_accuracy_param": {"deconvnet": 43},
        "unpooling_param": {"deconvnet": 44},
        "bn_param": {"deconvnet": 45},
        "red_softmax_loss_param": {"deconvnet": 46},
        "red_accuracy_param": {"deconvnet": 47},
        "binary_accuracy_param": {"deconvnet": 48},
        "window_cls_data_param": {"deconvnet": 49},
        "select_seg_binary_param": {"deconvnet": 50},
    },
    "LossParameter": {
        "weight_by_label_freqs": _under(3, _SEGNET_LINE),
        "class_weighting": _under(4, _SEGNET_LINE),
        "normalization": _under(5, _SEGNET_LINE - {"segnet"}) | _under(3, {"bvlc", "deeplab"}),
    },
    "ConvolutionParameter": {
        "axis": _under(16, _BVLC_2016),
        "force_nd_im2col": _under(17, _BVLC_2016),
        "dilation": _under(18, _BVLC_2016),
        # DeepLab v1's words, in text only.
        "hole": {},
        "hole_h": {},
        "hole_w": {},
    },
    "TransformationParameter": {
        "scale_factors": {"deeplab": 8},
        "crop_width": {"deeplab": 9},
        "crop_height": {"deeplab": 10},
    },
    "ImageDataParameter": {
        "label_divide_factor": {"enet": 13},
        "has_label": {"deconvnet": 13},
        "max_labels": {"deconvnet": 14},
        "ignore_label": _under(15, {"deconvnet", "deeplab"}),
        "label_type": _under(16, {"deconvnet", "deeplab"}),
        "other_object_label": {"deconvnet": 17},
    },
    "DenseImageDataParameter": {"label_divide_factor": {"enet": 13}},
    "DataParameter": {"prefetch": _under(10, _BVLC_2016)},
    "DropoutParameter": {"sample_weights_test": _under(2, _SEGNET_LINE)},
    "BatchNormParameter": {"update_global_stats": {"deeplab": 4}},
    "InnerProductParameter": {"transpose": _under(6, _BVLC_2016)},
    "InfogainLossParameter": {"axis": _under(2, {"bvlc", "crf"})},
    "PoolingParameter": {"round_mode": {"bvlc": 13}},
    "LRNParameter": {"engine": _under(6, _BVLC_2016)},
    "PythonParameter": {"param_str": _under(3, _BVLC_2016), "share_in_parallel": _under(4, _BVLC_2016)},
    "ConcatParameter": {"axis": _under(2, _V2)},
    "SliceParameter": {"axis": _under(3, _V2)},
    "ArgMaxParameter": {"axis": _under(3, _V2)},
}

#: message → the fields without which the dialect that has it refuses a text (``required`` in its schema).
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ClipParameter": ("min", "max"),
    "MatReadParameter": ("prefix",),
    "MatWriteParameter": ("prefix",),
    "UniqueLabelParameter": ("max_labels",),
    "MultiStageMeanfieldParameter": ("theta_alpha", "theta_beta", "theta_gamma", "num_iterations"),
}

_TYPE_GROUPS = (
    (_SEGNET_LINE, "BN Upsample DenseImageData"),
    (_BVLC_2016, "BatchNorm Scale Bias ELU Embed Tile BatchReindex"),
    (_BVLC_2016_NUMBERS, "Input Crop Parameter RNN LSTM"),
    ({"bvlc"}, "Swish Clip"),
    (
        {"deeplab"},
        "Interp SegAccuracy ImageSegData DenseCRF DomainTransform DomainTransformForwardOnly",
    ),
    ({"deeplab"}, "MatRead MatWrite UniqueLabel BiasChannel AdaptiveBiasChannel SpatialProduct"),
    ({"crf"}, "MultiStageMeanfield"),
    # DeconvNet's V1 types, as a net upgraded to V2 names them.
    ({"deconvnet"}, "EltwiseAccuracy Unpooling RedSoftmaxWithLoss RedAccuracy BinaryAccuracy DropoutChannel"),
    ({"deconvnet"}, "WindowSegData WindowInstSegData WindowClsData WindowSegBinary SelectSegBinary"),
)

#: layer type (V2's string) → the dialects that have it, for types that some dialect lacks.
TYPES: Mapping[str, frozenset[str]] = {
    name: frozenset(dialects) for dialects, names in _TYPE_GROUPS for name in names.split()
}

#: DeconvNet numbers its private V1 types from here on.
FIRST_DECONVNET_TYPE = caffe_pb2.V1LayerParameter.CROP


def _wire_numbers(dialect: str) -> dict[str, dict[int, int]]:
    numbers = {}
    for name, message in caffe_pb2.DESCRIPTOR.message_types_by_name.items():
        rows = FIELDS.get(name, {})
        written = ((f.number, rows[f.name].get(dialect) if f.name in rows else f.number) for f in message.fields)
        numbers[name] = {ours: wire for ours, wire in written if wire is not None}
    return numbers


#: dialect → message → number in caffe.proto → number on the wire; a field the dialect does not know is absent.
WIRE: Mapping[str, Mapping[str, Mapping[int, int]]] = {dialect: _wire_numbers(dialect) for dialect in DIALECTS}

#: The way back: dialect → message → number on the wire → number in caffe.proto.
SUPERSET: Mapping[str, Mapping[str, Mapping[int, int]]] = {
    dialect: {name: {wire: ours for ours, wire in numbers.items()} for name, numbers in messages.items()}
    for dialect, messages in WIRE.items()
}


def check_dialect(name: str) -> str:
    """``name`` itself, if it is a dialect's. Raises CaffeError naming all dialects otherwise."""
    if name not in DIALECTS:
        remedy = nearest(name, DIALECTS)
        known = ", ".join(DIALECTS)
        raise CaffeError(f"unknown dialect {name!r}, expected one of {known}" + (f"; {remedy}" if remedy else ""))
    return name


def detect(*messages: Message) -> str | None:
    """The dialect that a net (and its solver) as read from text give away; None without evidence.

    Field names do not clash in text, so evidence is a layer type or a field that only some dialects have. What one
    fork alone has decides at once (DeconvNet, CRF-as-RNN, DeepLab); what came after SegNet's fork means ``bvlc``,
    and ``enet`` beside SegNet's layers. ``cudnn5`` cannot be told from ``enet`` by its text.
    """
    evidence = {knowing for message in messages for knowing in _evidence(message)}
    for dialect in ("deconvnet", "crf", "deeplab"):
        if frozenset({dialect}) in evidence:
            return dialect
    if all("segnet" in knowing for knowing in evidence):
        return None
    able = _ALL.intersection(*evidence)
    return next((dialect for dialect in ("bvlc", "enet", "deeplab", "deconvnet") if dialect in able), "enet")


def _evidence(message: Message) -> Iterator[frozenset[str]]:
    """For everything in the message that not all dialects know: the dialects that do."""
    rows = FIELDS.get(message.DESCRIPTOR.name, {})
    for field, value in message.ListFields():
        if rows.get(field.name):
            yield frozenset(rows[field.name])
        if field.full_name == "caffe.LayerParameter.type" and value in TYPES:
            yield TYPES[value]
        elif field.full_name == "caffe.V1LayerParameter.type" and value >= FIRST_DECONVNET_TYPE:
            yield frozenset({"deconvnet"})
        elif field.message_type is not None:
            for child in value if field.is_repeated else (value,):
                yield from _evidence(child)
