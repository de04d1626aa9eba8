"""Every layer type that can be emitted, alone: the source computes what the net does, bit by bit."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from converters.emitting import emit, registry
from converters.emitting.plan import CannotEmit
from prototxt.net_file import read_net
from tests.caffe_compat.nets import inputs, net
from tests.converters.emitted import differences, fill
from tests.recorded import GOLDEN

RECORDED = sorted(GOLDEN.glob("layers/*/*.prototxt"))
ROOT = Path(__file__).parents[2]

X = {"x": (2, 6, 9, 11)}
#: type → parameters and, where they are others than X, the shapes of the bottoms.
CASES = [
    ("Convolution", "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 stride: 2 pad: 1 group: 2 }"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 dilation: 2 bias_term: false }"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 2 axis: 2 }"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 axis: 0 }", {"x": (2, 6, 5)}),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", {"x": (2, 3, 5, 6, 7)}),
    ("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 2 }"),
    ("Deconvolution", "convolution_param { num_output: 3 kernel_h: 3 kernel_w: 4 stride: 3 bias_term: false }"),
    ("InnerProduct", "inner_product_param { num_output: 5 }"),
    ("InnerProduct", "inner_product_param { num_output: 5 axis: -1 bias_term: false }"),
    ("InnerProduct", "inner_product_param { num_output: 5 transpose: true }"),
    ("BN", "bn_param { bn_mode: INFERENCE scale_filler { value: 1 } }"),
    ("BN", "bn_param { bn_mode: LEARN scale_filler { value: 1 } }"),
    ("BatchNorm", ""),
    ("BatchNorm", "batch_norm_param { eps: 0.01 }", {"x": (5, 6)}),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }"),
    ("Scale", "scale_param { bias_term: true }"),
    ("Scale", "scale_param { axis: 0 num_axes: -1 }"),
    ("Scale", "scale_param { axis: 1 num_axes: 2 }"),
    ("Scale", "scale_param { axis: 0 }", {"x": (2, 6, 9, 11), "y": (2, 6)}),
    ("Scale", "scale_param { axis: 1 bias_term: true }", {"x": (2, 6, 9, 11), "y": (6,)}),
    ("Bias", ""),
    ("Bias", "bias_param { axis: 2 }", {"x": (2, 6, 9, 11), "y": (9, 11)}),
    ("PReLU", ""),
    ("PReLU", "prelu_param { channel_shared: true }"),
    ("ReLU", ""),
    ("ReLU", "relu_param { negative_slope: 0.1 }"),
    ("ELU", "elu_param { alpha: 0.3 }"),
    ("Sigmoid", ""),
    ("TanH", ""),
    ("AbsVal", ""),
    ("BNLL", ""),
    ("Swish", "swish_param { beta: 1.7 }"),
    ("Clip", "clip_param { min: -0.3 max: 0.4 }"),
    ("Exp", "exp_param { base: 2.1 scale: 0.3 shift: 0.7 }"),
    ("Log", "log_param { base: 3 scale: 0.3 shift: 9 }"),
    ("Power", "power_param { power: 2 scale: 0.1 shift: 3 }"),
    ("Power", "power_param { power: -1 scale: 0.1 shift: 3 }"),
    ("Power", "power_param { scale: 0.1 }"),
    ("Power", "power_param { power: 0.3 scale: 0 shift: 2.7 }"),
    ("Power", "power_param { power: 0 }"),
    ("Threshold", "threshold_param { threshold: 0.1 }"),
    ("Dropout", "dropout_param { dropout_ratio: 0.3 }"),
    ("Dropout", "dropout_param { dropout_ratio: 0.3 sample_weights_test: true }"),
    ("Dropout", "phase: TEST"),
    ("Dropout", "phase: TRAIN"),
    ("LRN", ""),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.3 beta: 0.6 k: 2 }", {"x": (2, 2, 9, 11)}),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.3 norm_region: WITHIN_CHANNEL }"),
    ("MVN", ""),
    ("MVN", "mvn_param { across_channels: true }"),
    ("MVN", "mvn_param { normalize_variance: false }"),
    ("Softmax", ""),
    ("Softmax", "softmax_param { axis: -1 }"),
    ("ArgMax", ""),
    ("ArgMax", "argmax_param { axis: 1 }"),
    ("ArgMax", "argmax_param { axis: -1 top_k: 3 out_max_val: true }"),
    ("ArgMax", "argmax_param { top_k: 2 out_max_val: true }"),
    ("Concat", "", {"x": (2, 3, 4, 5), "y": (2, 2, 4, 5), "z": (2, 1, 4, 5)}),
    ("Concat", "concat_param { axis: 0 }", {"x": (2, 3), "y": (1, 3)}),
    ("Eltwise", "", {"x": (2, 3), "y": (2, 3), "z": (2, 3)}),
    ("Eltwise", "eltwise_param { coeff: 1 coeff: -1 coeff: 0.3 coeff: 1 }", dict.fromkeys("xyzw", (2, 3))),
    ("Eltwise", "eltwise_param { coeff: 0.7 coeff: 0.3 }", {"x": (2, 30), "y": (2, 30)}),
    ("Eltwise", "eltwise_param { operation: PROD }", {"x": (2, 3), "y": (2, 3), "z": (2, 3)}),
    ("Eltwise", "eltwise_param { operation: MAX }", {"x": (2, 3), "y": (2, 3), "z": (2, 3)}),
    ("Crop", "crop_param { offset: 1 offset: 2 }", {"x": (2, 3, 9, 11), "y": (1, 1, 7, 8)}),
    ("Crop", "crop_param { axis: 1 offset: 1 }", {"x": (2, 3, 9, 11), "y": (1, 2, 7, 8)}),
    ("Flatten", ""),
    ("Flatten", "flatten_param { axis: 1 end_axis: 2 }"),
    ("Flatten", "flatten_param { axis: 1 end_axis: 0 }"),
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 11 } }"),
    ("Reshape", "reshape_param { shape { dim: 3 dim: 2 } axis: 1 num_axes: 1 }"),
    ("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }"),
    ("Tile", "tile_param { tiles: 3 }"),
    ("Interp", "interp_param { zoom_factor: 3 }"),
    ("Interp", "interp_param { shrink_factor: 2 pad_beg: -1 pad_end: -2 }"),
    ("Interp", "interp_param { height: 7 width: 20 pad_end: -2 }"),
    ("Interp", "interp_param { shrink_factor: 2 zoom_factor: 3 }"),
    ("Reduction", ""),
    ("Reduction", "reduction_param { operation: MEAN axis: 1 coeff: 0.3 }"),
    ("Reduction", "reduction_param { operation: ASUM axis: 2 }"),
    ("Reduction", "reduction_param { operation: SUMSQ axis: -1 }"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }"),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 2 }"),
    ("Pooling", "pooling_param { kernel_size: 1 stride: 3 }"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR }"),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
    ("Pooling", "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 2 pad_w: 1 }"),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }"),
    ("Pooling", "pooling_param { global_pooling: true }"),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }"),
    ("Unpooling", "unpooling_param { unpool: TILE kernel_size: 2 stride: 2 unpool_h: 17 unpool_w: 22 }"),
    ("Unpooling", "unpooling_param { unpool: AVE kernel_size: 3 stride: 2 unpool_h: 18 unpool_w: 23 }"),
    ("Unpooling", "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 18 unpool_w: 22 }"),
]
#: Nets of several layers: shapes of the inputs and text.
NETS = {
    "slice": (X, 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_point: 4 } }'),
    "slice_evenly": (X, 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" }'),
    "slice_wanted_in_part": (
        X,
        'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" } layer { type: "Silence" bottom: "a" }',
    ),
    "mask_as_output": (
        X,
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" top: "mask" '
        "pooling_param { kernel_size: 2 stride: 2 } }",
    ),
    "mask_as_numbers": (
        X,
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" top: "m" pooling_param { kernel_size: 3 stride: 4 } }'
        'layer { name: "q" type: "Power" bottom: "m" top: "half" power_param { scale: 0.5 } }',
    ),
    "split_in_three": (
        X,
        'layer { name: "a" type: "TanH" bottom: "x" top: "a" } layer { name: "b" type: "AbsVal" bottom: "x" top: "b" }'
        'layer { name: "c" type: "Eltwise" bottom: "x" bottom: "b" top: "c" }',
    ),
    "convolution_of_two": (
        {"x": (1, 2, 5, 5), "y": (1, 2, 5, 5)},
        'layer { name: "c" type: "Convolution" bottom: "x" bottom: "y" top: "a" top: "b" '
        "convolution_param { num_output: 2 kernel_size: 3 } }",
    ),
    "input_in_place": (X, 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'),
}
#: Recorded cases of what is not emitted: other types, statistics as tops.
REFUSED = (
    *("bn_mean_var_tops", "crf_dense_image", "crf_dense_position_only", "crf_rnn", "embed", "im2col", "lstm"),
    *("parameter_layer", "spp"),
)
#: How the recorded cases begin that have nothing but a loss or a measure.
MEASURING = (
    *("accuracy", "euclidean", "hinge", "multinomial", "seg_accuracy", "sigmoid_ce", "softmaxloss", "ties_accuracy"),
    *("v1_eltwise_accuracy", "v1_softmax_loss"),
)
UNPOOLED = """
layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" top: "mask" pooling_param {{ {pooling} }} }}
layer {{ name: "c" type: "Convolution" bottom: "y" top: "z"
  convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 }} }}
layer {{ name: "u" type: "{kind}" bottom: "z" bottom: "mask" top: "u" {param} }}
"""
UNPOOLINGS = [
    ("kernel_size: 2 stride: 2", "Upsample", "upsample_param { upsample_h: 9 upsample_w: 11 }"),
    ("kernel_size: 2 stride: 2", "Upsample", "upsample_param { upsample_h: 12 upsample_w: 13 }"),
    ("kernel_size: 2 stride: 2", "Upsample", "upsample_param { scale: 2 }"),
    ("kernel_size: 2 stride: 2", "Upsample", "upsample_param { scale: 2 pad_out_h: true pad_out_w: true }"),
    ("kernel_size: 3 stride: 2", "Upsample", "upsample_param { scale_h: 2 scale_w: 3 }"),
    ("kernel_size: 3 stride: 1 pad: 1", "Upsample", "upsample_param { upsample_h: 9 upsample_w: 11 }"),
    ("kernel_size: 3 stride: 3", "Unpooling", "unpooling_param { kernel_size: 2 unpool_h: 9 unpool_w: 11 }"),
]


def case_net(kind, param, shapes):
    bottoms = " ".join(f'bottom: "{name}"' for name in shapes)
    return net(inputs(**shapes) + f'\nlayer {{ name: "l" type: "{kind}" {bottoms} top: "out" {param} }}')


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1][:60]}")
def test_one_layer(case, tmp_path):
    kind, param, *shapes = case
    assert differences(fill(case_net(kind, param, *(shapes or [X]))), tmp_path) == []


@pytest.mark.parametrize("name", NETS)
def test_small_net(name, tmp_path):
    shapes, text = NETS[name]
    assert differences(fill(net(inputs(**shapes) + text)), tmp_path) == []


@pytest.mark.parametrize(("pooling", "kind", "param"), UNPOOLINGS)
def test_pooled_and_put_back(pooling, kind, param, tmp_path):
    text = UNPOOLED.format(pooling=pooling, kind=kind, param=param)
    assert differences(fill(net(inputs(**X) + text, dialect="segnet")), tmp_path) == []


def test_ties_are_decided_as_in_the_net(tmp_path):
    text = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" top: "m" pooling_param { kernel_size: 2 stride: 2 } }'
        'layer { name: "u" type: "Upsample" bottom: "y" bottom: "m" top: "u" upsample_param { scale: 2 } }'
        'layer { name: "a" type: "ArgMax" bottom: "u" top: "a" argmax_param { axis: 1 } }'
    )
    ties = torch.randint(0, 3, (2, 6, 8, 10)).float()
    assert differences(net(inputs(x=(2, 6, 8, 10)) + text), tmp_path, {"x": ties}) == []


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_enets_spatial_dropout(phase, tmp_path):
    text = (
        'layer { name: "d" type: "Python" bottom: "x" top: "y" python_param { module: "spatial_dropout" '
        f"layer: \"SpatialDropoutLayer\" param_str: \"{{'phase': '{phase}', 'p': '0.3'}}\" }} }}"
    )
    assert differences(net(inputs(**X) + text), tmp_path) == []


@pytest.mark.parametrize("prototxt", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recorded_layer(prototxt, tmp_path):
    """The cases that Caffe recorded, with their parameters and bottoms, where they can be emitted."""
    dialect, recorded = prototxt.parent.name, dict(np.load(prototxt.with_suffix(".npz")))
    built = fill(caffe.Net(read_net(prototxt, dialect), caffe.TEST, dialect=dialect))
    if prototxt.stem in REFUSED or prototxt.stem.startswith(MEASURING):
        with pytest.raises(CannotEmit):
            emit(built, "x.pt", "x")
        return
    bottoms = {name: torch.from_numpy(recorded[f"bottom:{name}"]) for name in built.graph.feeds}
    assert differences(built, tmp_path, bottoms) == []


def test_every_type_is_tried():
    tried = {case[0] for case in CASES} | {"Python", "Slice", "Upsample"}
    assert tried == set(registry.known_types())
    told = (
        (ROOT / "docs" / "source.md")
        .read_text("utf-8")
        .partition("**What is emitted:**")[2]
        .partition(". Data layers")[0]
    )
    assert set(re.findall(r"\w+", told)) >= tried


def test_sources_are_formatted(tmp_path):
    pytest.importorskip("ruff", reason="needs ruff, of the extra dev")
    for i, (kind, param, *shapes) in enumerate(CASES):
        text = emit(case_net(kind, param, *(shapes or [X])), "weights.pt", f"case{i}")
        (tmp_path / f"case{i}.py").write_text(text, "utf-8")
    for i, (shapes, text) in enumerate(NETS.values()):
        (tmp_path / f"net{i}.py").write_text(emit(net(inputs(**shapes) + text), "weights.pt", f"net{i}"), "utf-8")
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", ROOT / "pyproject.toml", tmp_path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
