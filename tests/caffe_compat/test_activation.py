"""Activations, inner products, scales and norms: every branch by hand, and gradients against finite differences."""

import math

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from prototxt.net_file import parse_net
from tests.caffe_compat.nets import inputs, net


def single(layer, *shapes, phase=caffe.TEST, **options):
    names = [f"x{i}" for i in range(len(shapes))]
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    text = inputs(**dict(zip(names, shapes, strict=True))) + f'\nlayer {{ name: "l" {bottoms} top: "y" {layer} }}'
    return net(text, phase, **options)


def run(layer, *arrays, **options):
    built = single(layer, *(np.shape(array) for array in arrays), **options)
    return built.forward(**{f"x{i}": np.asarray(array) for i, array in enumerate(arrays)})["y"]


@pytest.mark.parametrize(
    ("layer", "x", "y"),
    [
        ('type: "PReLU"', [[-4, 4]], [[-1, 4]]),
        ('type: "PReLU" prelu_param { channel_shared: true filler { value: 0.5 } }', [[-4, 4]], [[-2, 4]]),
        ('type: "ELU" elu_param { alpha: 2 }', [-1, 3], [2 * (math.exp(-1) - 1), 3]),
        ('type: "Sigmoid"', [0, math.log(3)], [0.5, 0.75]),
        ('type: "TanH"', [0, 1], [0, math.tanh(1)]),
        ('type: "AbsVal"', [-2, 0, 3], [2, 0, 3]),
        ('type: "BNLL"', [0, 100, -1], [math.log(2), 100, math.log(1 + math.exp(-1))]),
        ('type: "Power" power_param { power: 2 scale: 3 shift: 1 }', [0, 1], [1, 16]),
        ('type: "Power" power_param { power: 0 }', [0, 5], [1, 1]),
        ('type: "Power" power_param { power: 3 scale: 0 shift: 2 }', [0, 5], [8, 8]),
        ('type: "Power"', [-1, 5], [-1, 5]),
        ('type: "Exp"', [0, 1], [1, math.e]),
        ('type: "Exp" exp_param { base: 2 scale: 3 shift: 1 }', [0, 1], [2, 16]),
        ('type: "Log"', [1, math.e], [0, 1]),
        ('type: "Log" log_param { base: 2 scale: 3 shift: 1 }', [0, 1], [0, 2]),
        ('type: "Threshold" threshold_param { threshold: 1 }', [0, 1, 2], [0, 0, 1]),
        ('type: "Swish" swish_param { beta: 2 }', [0, 1], [0, 1 / (1 + math.exp(-2))]),
        ('type: "Clip" clip_param { min: -1 max: 2 }', [-3, 0, 3], [-1, 0, 2]),
        ('type: "Scale"', [[1, 2]], [[1, 2]]),
        ('type: "Scale" scale_param { filler { } bias_term: true bias_filler { value: 3 } }', [[1, 2]], [[3, 3]]),
        ('type: "Bias" bias_param { filler { value: 3 } }', [[1, 2]], [[4, 5]]),
        ('type: "MVN"', [[[[1, 3]]]], [[[[-1, 1]]]]),
        ('type: "MVN" mvn_param { normalize_variance: false }', [[[[1, 4]]]], [[[[-1.5, 1.5]]]]),
        ('type: "MVN" mvn_param { across_channels: true }', [[[[1]], [[3]]]], [[[[-1]], [[1]]]]),
        ('type: "InnerProduct" inner_product_param { num_output: 1 weight_filler { value: 2 } }', [[1, 2]], [[6]]),
        ('type: "Embed" embed_param { num_output: 2 input_dim: 3 bias_filler { value: 4 } }', [0, 2], [[4, 4], [4, 4]]),
    ],
)
def test_values(layer, x, y):
    assert np.allclose(run(layer, x), y, atol=1e-6)
    if not layer.startswith(('type: "AbsVal"', 'type: "InnerProduct"', 'type: "Embed"')):  # these not in place
        text = inputs(x0=np.shape(x)) + f'layer {{ name: "l" bottom: "x0" top: "x0" {layer} }}'
        assert np.allclose(net(text).forward(x0=np.array(x))["x0"], y, atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "second", "spread"),
    [("axis: 0", (2,), (2, 1, 1)), ("axis: 1 ", (3, 4), (1, 3, 4)), ("axis: -1", (4,), (1, 1, 4)), ("", (), (1, 1, 1))],
)
@pytest.mark.parametrize(("kind", "apply"), [("Scale", np.multiply), ("Bias", np.add)])
def test_factor_from_a_second_bottom(kind, apply, axes, second, spread):
    random = np.random.default_rng(0)
    x, other = random.normal(size=(2, 3, 4)), random.normal(size=second)
    y = run(f'type: "{kind}" {kind.lower()}_param {{ {axes} }}', x, other)
    assert np.allclose(y, apply(x, other.reshape(spread)), atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "shape"), [("num_axes: 2", (3, 4)), ("axis: 0 num_axes: -1", (2, 3, 4)), ("num_axes: 0", ())]
)
def test_learnt_factor_covers_the_axes(axes, shape):
    built = single(f'type: "Scale" scale_param {{ {axes} bias_term: true }}', (2, 3, 4))
    assert [blob.shape for blob in built.params["l"]] == [shape, shape]


SMOOTH = [
    ('type: "ELU"', (2, 3)),
    ('type: "Sigmoid"', (2, 3)),
    ('type: "TanH"', (2, 3)),
    ('type: "BNLL"', (2, 3)),
    ('type: "Power" power_param { power: 2 shift: 1 }', (2, 3)),
    ('type: "Power" power_param { power: 3 scale: 0.5 shift: 9 }', (2, 3)),
    ('type: "Exp" exp_param { base: 2 scale: 0.5 }', (2, 3)),
    ('type: "Log" log_param { base: 10 shift: 9 }', (2, 3)),
    ('type: "Swish"', (2, 3)),
    ('type: "PReLU"', (2, 3, 2)),
    ('type: "Scale" scale_param { bias_term: true }', (2, 3, 2)),
    ('type: "Bias"', (2, 3)),
    ('type: "MVN"', (2, 2, 2, 3)),
    ('type: "MVN" mvn_param { across_channels: true }', (2, 2, 2, 3)),
    ('type: "BatchNorm" batch_norm_param { use_global_stats: false }', (3, 2, 2, 2)),
    (
        'type: "InnerProduct" inner_product_param { num_output: 2 weight_filler { type: "msra" } transpose: true }',
        (2, 3, 2),
    ),
]


@pytest.mark.parametrize(("layer", "shape"), SMOOTH, ids=[layer[:40] for layer, _ in SMOOTH])
def test_gradients_agree_with_finite_differences(layer, shape):
    torch.manual_seed(0)
    module = single(layer, shape, dialect="bvlc").double().layer["l"]
    learnt = [p for p in module.parameters() if module.type != "BatchNorm"]
    values = torch.randn(shape, dtype=torch.float64).requires_grad_()
    with torch.no_grad():
        for parameter in learnt:
            parameter.normal_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (values, *learnt))


def test_mean_in_the_gradient_depends_on_the_dialect():
    text = (
        "force_backward: true "
        + inputs(x=(1, 1, 1, 2))
        + """
layer { name: "l" type: "MVN" bottom: "x" top: "y" mvn_param { normalize_variance: false } }"""
    )
    for dialect, expected in (("segnet", [1, 0]), ("bvlc", [0.5, -0.5])):
        built = net(text, dialect=dialect)
        built.forward(x=np.zeros((1, 1, 1, 2)))
        assert built.backward(y=np.array([[[[1.0, 0]]]]))["x"].ravel().tolist() == expected


def test_batch_norm_stores_what_it_sees():
    text = 'type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.5 eps: 0 }'
    built = single(text, (1, 1, 1, 2), phase=caffe.TRAIN)
    assert built.forward(x0=np.array([[[[1.0, 3]]]]))["y"].ravel().tolist() == [-1, 1]
    built.forward(x0=np.array([[[[1.0, 3]]]]))
    mean, variance, weight = (blob.data.item() for blob in built.params["l"])
    assert (mean, variance, weight) == (3, 3, 1.5)  # 0.5·2 + 2, with the unbiased variance 2
    assert np.allclose(built.eval().forward(x0=np.array([[[[2.0, 4]]]]))["y"], [0, 2 / math.sqrt(2)])


def test_batch_norm_does_not_learn():
    built = single('type: "BatchNorm"', (2, 3))
    assert not any(blob.needs_diff for blob in built.params["l"])
    assert [p.lr_mult for p in built.graph.message.layer[-1].param] == [0, 0, 0]
    with pytest.raises(NetError, match="`lr_mult` of blob 1 is not 0"):
        single('type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 1 }', (2, 3))


def test_deeplab_follows_the_data_with_stored_statistics():
    text = 'type: "BatchNorm" batch_norm_param { use_global_stats: true update_global_stats: true eps: 0 }'
    built = single(text, (1, 1, 1, 2), phase=caffe.TRAIN, dialect="deeplab")
    for blob, value in zip(built.params["l"], (4, 1, 2), strict=True):
        blob.data[...] = value
    y = built.forward(x0=np.array([[[[1.0, 5]]]]))["y"]
    assert np.allclose(y.ravel(), np.array([-1, 3]) / math.sqrt(5))  # about the stored mean 2


@pytest.mark.parametrize(
    ("layer", "shapes", "said"),
    [
        ('type: "PReLU"', [(3,)], "expected at least 2 axes"),
        ('type: "Exp" exp_param { base: -2 }', [(1,)], "expected a number above 0, or -1"),
        ('type: "Log" log_param { base: 1 }', [(1,)], "every power of 1 is 1"),
        ('type: "Clip" clip_param { min: 1 }', [(1,)], "without 'max'|no `max`"),
        ('type: "Scale" scale_param { axis: 1 num_axes: 3 }', [(1, 2, 3)], "expected at most 2 axes"),
        ('type: "Scale"', [(1, 2, 3), (3,)], r"second bottom \(3,\).*expected \(2,\)"),
        ('type: "InnerProduct"', [(1, 2)], "`num_output` is 0 or missing"),
        ('type: "Embed" embed_param { num_output: 2 }', [(1,)], "expected both"),
        ('type: "MVN"', [(1, 2)], "expected 4 axes"),
    ],
)
def test_wrong_settings(layer, shapes, said):
    with pytest.raises((NetError, caffe.NetError, ValueError), match=said):
        single(layer, *shapes)


def test_in_place_absolute_values_are_refused():
    with pytest.raises(NetError, match="runs in place"):
        net(inputs(x=(1,)) + 'layer { name: "l" type: "AbsVal" bottom: "x" top: "x" }')


def test_inner_product_fixes_the_size_of_its_input():
    built = single('type: "InnerProduct" inner_product_param { num_output: 2 }', (1, 3, 4))
    built.blobs["x0"].reshape(1, 3, 5)
    with pytest.raises(NetError, match=r"weights of the shape \(2, 15\).*\(2, 12\)"):
        built.reshape()


def test_index_outside_the_rows():
    with pytest.raises(NetError, match="indices from 0 to 3; expected 0 to 2"):
        run('type: "Embed" embed_param { num_output: 2 input_dim: 3 }', [0, 3])


def test_dropout_of_whole_channels():
    built = single('type: "DropoutChannel" dropout_param { dropout_ratio: 0.25 }', (50, 40, 2, 3), phase=caffe.TRAIN)
    x = np.ones((50, 40, 2, 3), np.float32)
    planes = built.forward(x0=x)["y"].reshape(2000, 6)
    assert (planes == planes[:, :1]).all() and np.allclose(np.unique(planes), [0, 4 / 3])
    assert abs((planes[:, 0] > 0).mean() - 0.75) < 0.05
    assert np.array_equal(built.eval().forward(x0=x)["y"], x)


@pytest.mark.parametrize("kind", ["Dropout", "Power"])
def test_an_identity_keeps_its_bottom_from_a_layer_in_place(kind):
    built = caffe.Net(
        parse_net(
            'input: "x" input_shape { dim: 4 } layer { name: "t" type: "TanH" bottom: "x" top: "t" } '
            f'layer {{ name: "i" type: "{kind}" bottom: "t" top: "i" }} '
            'layer { name: "r" type: "ReLU" bottom: "i" top: "i" } '
            'layer { name: "u" type: "AbsVal" bottom: "t" top: "u" }'
        ),
        caffe.TEST,
    )
    with torch.no_grad():
        assert bool((built(x=-torch.ones(4))["u"] > 0.5).all())
