"""Deconvolution, and the window parameters that it shares with Convolution."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def built(shape, param, type_name="Deconvolution", **options):
    text = f'layer {{ name: "l" type: "{type_name}" bottom: "x" top: "y" convolution_param {{ {param} }} }}'
    return net(inputs(x=shape) + text, **options)


def by_hand(x, weight, stride, pad, dilation, group):
    """Every value spreads its filter; x (N, C, h, w), weight (C, O / group, kh, kw)."""
    (n, c, h, w), (_, o, kh, kw) = x.shape, weight.shape
    rows, columns = stride * (h - 1) + dilation * (kh - 1) + 1, stride * (w - 1) + dilation * (kw - 1) + 1
    full = np.zeros((n, o * group, rows, columns))
    for channel, i, j, u, v in np.ndindex(c, h, w, kh, kw):
        first = channel // (c // group) * o
        full[:, first : first + o, i * stride + u * dilation, j * stride + v * dilation] += (
            x[:, channel, i, j][:, None] * weight[channel, :, u, v]
        )
    return full[:, :, pad : rows - pad, pad : columns - pad]


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation", "group"),
    [(3, 1, 0, 1, 1), (4, 2, 1, 1, 2), (3, 2, 2, 2, 4), (1, 1, 1, 1, 1), (2, 3, 0, 1, 1), (1, 3, 2, 1, 2)],
)
def test_values_spread_over_the_top(kernel, stride, pad, dilation, group):
    param = f"num_output: 4 kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation} group: {group}"
    made = built((2, 4, 5, 6), param + ' weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }')
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    weight, bias = (blob.data for blob in made.params["l"])
    assert weight.shape == (4, 4 // group, kernel, kernel)
    want = by_hand(x, weight, stride, pad, dilation, group) + bias[:, None, None]
    assert np.allclose(made.forward(x=x)["y"], want, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 2, 3, 2)])
def test_any_number_of_spatial_axes(shape):
    made = built(shape, "num_output: 2 kernel_size: 2 stride: 2 weight_filler { value: 1 } bias_term: false")
    y = made.forward(x=np.ones(shape))["y"]
    assert y.shape == (shape[0], 2, *(2 * d for d in shape[2:])) and (y == 3).all()


@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
def test_channels_may_stand_on_another_axis(type_name):
    param = 'num_output: 2 kernel_size: 2 stride: 2 weight_filler { type: "msra" }'
    made = built((2, 3, 4, 4, 6), param + " axis: 2", type_name)
    flat = built((6, 4, 4, 6), param, type_name)
    flat.params["l"][0].data[...] = made.params["l"][0].data
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 6)).astype(np.float32)
    assert np.array_equal(
        made.forward(x=x)["y"].reshape(6, 2, -1), flat.forward(x=x.reshape(6, 4, 4, 6))["y"].reshape(6, 2, -1)
    )


def test_gradients():
    made = built((2, 4, 3, 3), 'num_output: 2 kernel_size: 3 stride: 2 pad: 1 group: 2 weight_filler { type: "msra" }')
    layer = made.double().layer["l"]
    assert torch.autograd.gradcheck(layer, torch.rand(2, 4, 3, 3, dtype=torch.float64, requires_grad=True))


def test_fans_of_the_fillers_are_those_of_the_blob():
    torch.manual_seed(0)
    made = built((1, 100, 1, 1), 'num_output: 4 kernel_size: 5 weight_filler { type: "xavier" }')
    bound = (3 / (4 * 5 * 5)) ** 0.5  # fan_in is num_output k k
    assert 0.98 * bound < np.abs(made.params["l"][0].data).max() <= bound


def test_bilinear_deconvolution_keeps_a_plane_constant():
    param = 'num_output: 2 group: 2 kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" }'
    y = built((1, 2, 5, 5), param, dialect="bvlc").forward(x=np.full((1, 2, 5, 5), 3))["y"]
    assert y.shape == (1, 2, 10, 10) and np.allclose(y[:, :, 1:-1, 1:-1], 3)


def test_cost_counts_every_weight_of_every_input():
    node = built((2, 4, 5, 5), "num_output: 6 kernel_size: 3 group: 2").graph.nodes[0]
    assert node.multiply_adds == 2 * 4 * 25 * 3 * 9


@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("num_output: 4", "no `kernel_size`"),
        ("num_output: 4 kernel_h: 2", "without `kernel_w`"),
        ("num_output: 4 kernel_size: 2 kernel_h: 2 kernel_w: 2", "both `kernel_size` and `kernel_h`"),
        ("num_output: 4 kernel_size: 2 stride_w: 2", "`stride_w` is given without `stride_h`"),
        ("num_output: 4 kernel_size: 2 stride: 0", r"stride \(0, 0\)"),
        ("num_output: 4 kernel_size: 2 dilation: 0", r"dilation \(0, 0\)"),
        ("num_output: 4 kernel_size: 2 kernel_size: 2 kernel_size: 2", "given 3 times"),
        ("num_output: 3 kernel_size: 2 group: 2", "not a multiple of `group: 2`"),
        ("num_output: 3 kernel_size: 2 group: 3", "4 channels are not a multiple"),
        ("kernel_size: 2", "`num_output` is 0 or missing"),
        ("num_output: 4 kernel_size: 2 axis: 3", "0 spatial axes"),
        ("num_output: 4 kernel_size: 2 axis: 4", "axis 4 is out of range"),
        ('num_output: 4 kernel_size: 2 weight_filler { type: "xavir" }', "did you mean 'xavier'"),
    ],
)
def test_parameters_that_do_not_fit(type_name, param, said):
    with pytest.raises(NetError, match=said):
        built((1, 4, 5, 5), param, type_name)


def test_nothing_left_after_padding():
    with pytest.raises(NetError, match=r"gives the output \(0, 1\); expected less padding"):
        built((1, 1, 1, 2), "num_output: 1 kernel_size: 2 pad: 1")


def test_bottoms_of_several_shapes_and_other_channels():
    with pytest.raises(NetError, match="expected equal ones"):
        net(
            inputs(a=(1, 1, 4, 4), b=(1, 1, 5, 4))
            + """layer { name: "l" type: "Deconvolution" bottom: "a" bottom: "b" top: "c" top: "d"
              convolution_param { num_output: 1 kernel_size: 1 } }"""
        )
    made = built((1, 4, 5, 5), "num_output: 4 kernel_size: 2", phase=caffe.TRAIN)
    made.blobs["x"].reshape(1, 3, 5, 5)
    with pytest.raises(NetError, match=r"takes weights of the shape \(3, 4, 2, 2\)"):
        made.reshape()
