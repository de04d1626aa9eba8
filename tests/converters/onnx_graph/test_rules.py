"""Every layer type that ONNX can express, in a tiny net: ONNX Runtime computes what the net does."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx, the optional extra")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, the optional extra")

from onnx.reference import ReferenceEvaluator

from converters.onnx_graph.model import to_onnx
from tests.caffe_compat.nets import inputs, net
from tests.converters.onnx_graph.running import assert_same, both, feeds_for, layer, outputs, randomised

PLANES = {"x": (2, 4, 7, 9)}


def pooled(param, tops="y"):
    return layer("Pooling", f"pooling_param {{ {param} }}", tops=tops)


def conv(param, kind="Convolution"):
    return layer(kind, f"convolution_param {{ num_output: 6 {param} }}")


#: name → (inputs, layers, dialect)
CASES = {
    "Convolution": (PLANES, conv("kernel_size: 3 pad: 1 stride: 2"), None),
    "Convolution in groups, with holes": (PLANES, conv("kernel_size: 3 group: 2 dilation: 2 bias_term: false"), None),
    "Convolution over one axis": ({"x": (2, 4, 9)}, conv("kernel_size: 3 pad: 1"), "bvlc"),
    "Convolution over three axes": ({"x": (1, 2, 4, 5, 6)}, conv("kernel_size: 3 pad: 1 pad: 0 pad: 2"), "bvlc"),
    "Convolution from another axis on": ({"x": (2, 3, 4, 7, 9)}, conv("kernel_size: 3 axis: 2"), "bvlc"),
    "Deconvolution": (PLANES, conv("kernel_size: 4 stride: 2 pad: 1", "Deconvolution"), None),
    "Deconvolution in groups": (
        PLANES,
        conv("kernel_h: 3 kernel_w: 2 stride: 3 group: 2 dilation: 2 bias_term: false", "Deconvolution"),
        "bvlc",
    ),
    "InnerProduct": (PLANES, layer("InnerProduct", "inner_product_param { num_output: 5 }"), None),
    "InnerProduct of vectors": ({"x": (3, 8)}, layer("InnerProduct", "inner_product_param { num_output: 5 }"), None),
    "InnerProduct from another axis on": (
        PLANES,
        layer("InnerProduct", "inner_product_param { num_output: 5 axis: 2 transpose: true bias_term: false }"),
        "bvlc",
    ),
    "Im2col": (PLANES, conv("kernel_h: 3 kernel_w: 2 pad: 1 stride: 2", "Im2col"), None),
    "Pooling, rounded up": (PLANES, pooled("kernel_size: 2 stride: 2"), None),
    "Pooling with a mask": (PLANES, pooled("kernel_size: 2 stride: 2", "y mask"), None),
    "Pooling with padding and a mask": (PLANES, pooled("kernel_size: 3 stride: 2 pad: 1", "y mask"), None),
    "Pooling, windows beyond the plane": ({"x": (2, 3, 6, 8)}, pooled("kernel_size: 1 stride: 2", "y mask"), None),
    "Pooling, rounded down": (PLANES, pooled("kernel_size: 2 stride: 2 round_mode: FLOOR"), "bvlc"),
    "Pooling of the whole plane": (PLANES, pooled("pool: AVE global_pooling: true"), None),
    "AVE with overhang": (PLANES, pooled("pool: AVE kernel_size: 2 stride: 2"), None),
    "AVE with padding and overhang": ({"x": (2, 3, 6, 8)}, pooled("pool: AVE kernel_size: 3 stride: 2 pad: 1"), None),
    "AVE with large padding": (PLANES, pooled("pool: AVE kernel_h: 3 kernel_w: 5 stride: 3 pad: 2"), None),
    "STOCHASTIC": ({"x": (2, 4, 7, 9)}, pooled("pool: STOCHASTIC kernel_size: 3 stride: 2"), None),
    "SPP": (PLANES, layer("SPP", "spp_param { pyramid_height: 3 }"), None),
    "SPP of means": (PLANES, layer("SPP", "spp_param { pyramid_height: 2 pool: AVE }"), None),
    "Upsample of a padded pooling": (
        PLANES,
        pooled("kernel_size: 3 stride: 2 pad: 1", "p m")
        + layer("Upsample", "upsample_param { upsample_h: 7 upsample_w: 9 }", "p m"),
        None,
    ),
    "Upsample of several values to one place": (
        PLANES,
        pooled("kernel_size: 3 stride: 1 pad: 1", "p m")
        + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }", "p", "c")
        + layer("Upsample", "upsample_param { upsample_h: 7 upsample_w: 9 }", "c m"),
        None,
    ),
    "Upsample by scale": (
        PLANES,
        pooled("kernel_size: 2 stride: 2", "p m")
        + layer("Upsample", "upsample_param { scale: 2 pad_out_h: true pad_out_w: true }", "p m"),
        None,
    ),
    "Upsample into a larger plane": (
        PLANES,
        pooled("kernel_size: 2 stride: 2", "p m")
        + layer("Upsample", "upsample_param { upsample_h: 8 upsample_w: 11 }", "p m"),
        None,
    ),
    "Upsample by a mask that was computed with": (
        PLANES,
        pooled("kernel_size: 2 stride: 2", "p m")
        + layer("Power", "power_param { scale: 0.5 }", "m", "half")
        + layer("Upsample", "upsample_param { upsample_h: 7 upsample_w: 9 }", "p half"),
        None,
    ),
    "Unpooling by a mask": (
        PLANES,
        pooled("kernel_size: 2 stride: 2", "p m")
        + layer("Unpooling", "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 7 unpool_w: 9 }", "p m"),
        "deconvnet",
    ),
    "Unpooling into corners": (
        PLANES,
        layer("Unpooling", "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 11 unpool_w: 19 }"),
        "deconvnet",
    ),
    "Unpooling TILE": (
        PLANES,
        layer("Unpooling", "unpooling_param { unpool: TILE kernel_size: 3 stride: 2 unpool_h: 17 unpool_w: 15 }"),
        "deconvnet",
    ),
    "Unpooling AVE": (
        PLANES,
        layer("Unpooling", "unpooling_param { unpool: AVE kernel_size: 3 stride: 2 unpool_h: 13 unpool_w: 25 }"),
        "deconvnet",
    ),
    "BN, LEARN": (PLANES, layer("BN"), None),
    "BN, LEARN, with statistics": (PLANES, layer("BN", tops="y mean variance"), "enet"),
    "BN, INFERENCE": (PLANES, layer("BN", "bn_param { bn_mode: INFERENCE }"), None),
    "BatchNorm, stored": (PLANES, layer("BatchNorm"), "bvlc"),
    "BatchNorm, of the batch": (PLANES, layer("BatchNorm", "batch_norm_param { use_global_stats: false }"), "bvlc"),
    "BatchNorm of one axis": ({"x": (5,)}, layer("BatchNorm"), "bvlc"),
    "Scale": (PLANES, layer("Scale", "scale_param { bias_term: true }"), "bvlc"),
    "Scale along other axes": (PLANES, layer("Scale", "scale_param { axis: 2 num_axes: 1 }"), "bvlc"),
    "Scale by a bottom": (
        PLANES | {"f": (4, 7)},
        layer("Scale", "scale_param { bias_term: true }", "x f"),
        "bvlc",
    ),
    "Scale item by item": (PLANES | {"f": (2,)}, layer("Scale", "scale_param { axis: 0 }", "x f"), "bvlc"),
    "Bias": (PLANES, layer("Bias"), "bvlc"),
    "Bias by a bottom": (PLANES | {"f": (2, 4)}, layer("Bias", "bias_param { axis: 0 }", "x f"), "bvlc"),
    "LRN across channels": (PLANES, layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }"), "bvlc"),
    "LRN, more than the channels": (PLANES, layer("LRN", "lrn_param { local_size: 9 alpha: 0.5 }"), None),
    "LRN within channels": (
        PLANES,
        layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 norm_region: WITHIN_CHANNEL }"),
        None,
    ),
    "MVN": (PLANES, layer("MVN"), None),
    "MVN across channels": (PLANES, layer("MVN", "mvn_param { across_channels: true }"), None),
    "MVN without variance": (PLANES, layer("MVN", "mvn_param { normalize_variance: false }"), None),
    "ReLU": (PLANES, layer("ReLU"), None),
    "leaky ReLU": (PLANES, layer("ReLU", "relu_param { negative_slope: 0.1 }"), None),
    "PReLU": (PLANES, layer("PReLU"), None),
    "PReLU of vectors": ({"x": (3, 8)}, layer("PReLU"), None),
    "PReLU, one for all": (PLANES, layer("PReLU", "prelu_param { channel_shared: true }"), None),
    "ELU": (PLANES, layer("ELU", "elu_param { alpha: 0.7 }"), "bvlc"),
    "Sigmoid": (PLANES, layer("Sigmoid"), None),
    "TanH": (PLANES, layer("TanH"), None),
    "AbsVal": (PLANES, layer("AbsVal"), None),
    "BNLL": (PLANES, layer("BNLL"), None),
    "Exp": (PLANES, layer("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"), None),
    "Log": (PLANES, layer("AbsVal", tops="a") + layer("Log", "log_param { base: 10 scale: 2 shift: 1 }", "a"), None),
    "Power": (PLANES, layer("AbsVal", tops="a") + layer("Power", "power_param { power: 1.5 shift: 1 }", "a"), None),
    "Power of nothing": (PLANES, layer("Power", "power_param { power: 2 scale: 0 shift: 3 }"), None),
    "Threshold": (PLANES, layer("Threshold", "threshold_param { threshold: 0.3 }"), None),
    "Swish": (PLANES, layer("Swish", "swish_param { beta: 1.5 }"), "bvlc"),
    "Clip": (PLANES, layer("Clip", "clip_param { min: -0.5 max: 0.7 }"), "bvlc"),
    "Dropout": (PLANES, layer("Dropout"), None),
    "DropoutChannel": (PLANES, layer("DropoutChannel"), "deconvnet"),
    "Python, ENet's spatial dropout": (
        PLANES,
        layer(
            "Python",
            'python_param { module: "spatial_dropout" layer: "SpatialDropoutLayer" '
            "param_str: \"{'phase': 'TEST', 'p': '0.1'}\" }",
        ),
        "enet",
    ),
    "Softmax": (PLANES, layer("Softmax"), None),
    "Softmax along another axis": (PLANES, layer("Softmax", "softmax_param { axis: 2 }"), "bvlc"),
    "ArgMax": (PLANES, layer("ArgMax"), None),
    "ArgMax with values": (PLANES, layer("ArgMax", "argmax_param { top_k: 3 out_max_val: true }"), None),
    "ArgMax along an axis": (PLANES, layer("ArgMax", "argmax_param { axis: 1 }"), "bvlc"),
    "ArgMax, the first ones": (PLANES, layer("ArgMax", "argmax_param { axis: -1 top_k: 4 }"), "bvlc"),
    "ArgMax, the value alone": (PLANES, layer("ArgMax", "argmax_param { axis: 1 out_max_val: true }"), "bvlc"),
    "Concat": (PLANES | {"z": (2, 3, 7, 9)}, layer("Concat", bottoms="x z"), None),
    "Concat of images": (
        PLANES | {"z": (2, 4, 7, 9)},
        layer("Concat", "concat_param { axis: 0 }", bottoms="x z"),
        "bvlc",
    ),
    "Slice": (PLANES, layer("Slice", "slice_param { slice_point: 1 }", tops="y z"), None),
    "Slice into equal parts": (PLANES, layer("Slice", "slice_param { axis: 3 }", tops="a b c"), "bvlc"),
    "Eltwise SUM": (
        PLANES | {"z": PLANES["x"]},
        layer("Eltwise", "eltwise_param { coeff: 0.5 coeff: -2 }", "x z"),
        None,
    ),
    "Eltwise PROD": (PLANES | {"z": PLANES["x"]}, layer("Eltwise", "eltwise_param { operation: PROD }", "x z x"), None),
    "Eltwise MAX": (PLANES | {"z": PLANES["x"]}, layer("Eltwise", "eltwise_param { operation: MAX }", "x z"), None),
    "SpatialProduct": (PLANES | {"z": (2, 1, 7, 9)}, layer("SpatialProduct", bottoms="x z"), "deeplab"),
    "Crop": (
        PLANES | {"z": (2, 3, 4, 5)},
        layer("Crop", "crop_param { offset: 2 offset: 3 }", "x z") + layer("AbsVal", bottoms="z", tops="z2"),
        "bvlc",
    ),
    "Crop of channels": (
        PLANES | {"z": (2, 3, 4, 5)},
        layer("Crop", "crop_param { axis: 1 offset: 1 }", "x z") + layer("AbsVal", bottoms="z", tops="z2"),
        "bvlc",
    ),
    "Flatten": (PLANES, layer("Flatten"), None),
    "Flatten of some axes": (PLANES, layer("Flatten", "flatten_param { axis: 2 end_axis: -1 }"), "bvlc"),
    "Flatten to four axes": (PLANES, layer("Flatten"), "deconvnet"),
    "Reshape": (PLANES, layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 dim: 2 dim: 7 } }"), None),
    "Reshape that takes the batch along": (
        PLANES,
        layer("Reshape", "reshape_param { shape { dim: 4 dim: -1 dim: 7 } }"),
        None,
    ),
    "Tile": (PLANES, layer("Tile", "tile_param { axis: 2 tiles: 3 }"), "bvlc"),
    "Reduction SUM": (PLANES, layer("Reduction", "reduction_param { coeff: 0.1 }"), None),
    "Reduction ASUM": (PLANES, layer("Reduction", "reduction_param { operation: ASUM axis: 1 }"), None),
    "Reduction SUMSQ": (PLANES, layer("Reduction", "reduction_param { operation: SUMSQ axis: 2 }"), None),
    "Reduction MEAN": (PLANES, layer("Reduction", "reduction_param { operation: MEAN axis: -1 }"), None),
    "Interp": (PLANES, layer("Interp", "interp_param { zoom_factor: 3 }"), "deeplab"),
    "Interp after cropping": (
        PLANES,
        layer("Interp", "interp_param { height: 5 width: 11 pad_beg: -1 pad_end: -2 }"),
        "deeplab",
    ),
    "Interp to one": (PLANES, layer("Interp", "interp_param { height: 1 width: 4 }"), "deeplab"),
    "Parameter": (
        PLANES,
        layer("Parameter", "parameter_param { shape { dim: 4 } }", bottoms="", tops="p") + layer("Bias", bottoms="x p"),
        "bvlc",
    ),
    "Silence": (PLANES, layer("Slice", tops="y z") + layer("Silence", bottoms="z", tops=""), None),
    "SoftmaxWithLoss, its softmax": (
        PLANES | {"label": (2, 1, 7, 9)},
        layer("SoftmaxWithLoss", bottoms="x label", tops="loss prob"),
        None,
    ),
}


@pytest.mark.parametrize(("shapes", "text", "dialect"), CASES.values(), ids=CASES)
def test_same_as_the_net(shapes, text, dialect):
    built = randomised(net(inputs(**shapes) + text, dialect=dialect))
    assert_same(*both(built, feeds_for(shapes)))
    if len(shapes["x"]) == 4:  # the same with another number of images in the same model
        more = {name: (5, *shape[1:]) if shape[0] == 2 else shape for name, shape in shapes.items()}
        built.blobs["x"].reshape(*shapes["x"])
        built.reshape()
        assert_same(*both(built, feeds_for(more)))


#: What onnx.reference itself (1.16, 1.23) does not compute as the standard says: it takes the number of images for that
#: of channels in LRN, and refuses ConvTranspose in groups, the newer one with holes alone.
NOT_IN_REFERENCE = {
    "Deconvolution in groups",
    "LRN across channels",
    "LRN, more than the channels",
    "Unpooling AVE",
    "Unpooling TILE",
    "Upsample of several values to one place",
}


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_IN_REFERENCE))
def test_same_by_the_standards_reference(name):
    """Another engine, slow but by the letter: nothing hangs on ONNX Runtime."""
    shapes, text, dialect = CASES[name]
    built, feeds = randomised(net(inputs(**shapes) + text, dialect=dialect)), feeds_for(shapes)
    evaluator = ReferenceEvaluator(to_onnx(built).model)
    found = evaluator.run(None, {name: feeds[name] for name in evaluator.input_names})
    found = {name: np.asarray(value) for name, value in zip(evaluator.output_names, found, strict=True)}
    assert_same(outputs(built, feeds, found), found)
