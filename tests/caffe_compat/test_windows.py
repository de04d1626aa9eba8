"""Im2col and SPP."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def built(type_name, param, shape, phase=caffe.TEST):
    text = f'force_backward: true layer {{ name: "l" type: "{type_name}" bottom: "x" top: "y" {param} }}'
    return net(inputs(x=shape) + text, phase)


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("kernel_size: 3", {"kernel_size": 3}),
        ("kernel_size: 2 stride: 2 pad: 3", {"kernel_size": 2, "stride": 2, "padding": 3}),
        (
            "kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 pad_w: 1",
            {"kernel_size": (1, 3), "stride": (2, 1), "padding": (0, 1)},
        ),
        ("kernel_size: 2 dilation: 2 dilation: 3", {"kernel_size": 2, "dilation": (2, 3)}),
    ],
)
def test_windows_as_channels(param, options):
    made = built("Im2col", f"convolution_param {{ {param} }}", (2, 3, 6, 7))
    x = torch.rand(2, 3, 6, 7)
    y = made(x)["y"]
    assert y.shape == tuple(made.blobs["y"].shape) and torch.equal(y.flatten(2), F.unfold(x, **options))


def test_windows_over_one_axis_and_from_another_axis():
    made = built("Im2col", "convolution_param { kernel_size: 2 axis: 2 }", (1, 1, 2, 3))
    x = np.arange(6).reshape(1, 1, 2, 3)
    assert made.forward(x=x)["y"].tolist() == [[[[0, 1], [1, 2], [3, 4], [4, 5]]]]


def test_gradients_of_im2col():
    layer = built("Im2col", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }", (1, 2, 4, 5)).layer["l"]
    assert torch.autograd.gradcheck(layer, torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("", (1, 1, 4, 4), "no `kernel_size`"),
        ("kernel_size: 5", (1, 1, 4, 4), "smaller than the kernel"),
        ("kernel_size: 1", (1, 1), "no spatial axes"),
    ],
)
def test_im2col_refuses(param, shape, said):
    with pytest.raises(NetError, match=said):
        built("Im2col", f"convolution_param {{ {param} }}", shape)


def test_pyramid_of_maxima_and_of_means():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    maxima = built("SPP", "spp_param { pyramid_height: 2 }", x.shape).forward(x=x)["y"]
    assert maxima.tolist() == [[15, 5, 7, 13, 15]]
    means = built("SPP", "spp_param { pyramid_height: 2 pool: AVE }", x.shape).forward(x=x)["y"]
    assert means.tolist() == [[7.5, 2.5, 4.5, 10.5, 12.5]]


def test_pyramid_over_a_plane_that_does_not_divide():
    made = built("SPP", "spp_param { pyramid_height: 2 }", (2, 3, 5, 6))  # rows: kernel 3, pad 1
    x = torch.rand(2, 3, 5, 6)
    y = made(x)["y"].view(2, -1)
    assert y.shape == (2, 15) and torch.equal(y[:, :3], x.amax((2, 3)))
    assert torch.equal(y[:, 3], x[:, 0, :2, :3].amax((1, 2))) and torch.equal(y[:, 6], x[:, 0, 2:, 3:].amax((1, 2)))


def test_pyramid_follows_the_phase():
    made = built("SPP", "spp_param { pyramid_height: 1 pool: STOCHASTIC }", (1, 1, 1, 2))
    x = torch.tensor([[[[1.0, 3.0]]]])
    assert made(x)["y"].item() == 2.5
    assert {made.train()(x)["y"].item() for _ in range(40)} == {1, 3}


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "`pyramid_height` is 0 or missing"),
        ("pyramid_height: 3", r"level 2 of the pyramid: pad \(1, 1\) is not smaller than the kernel \(1, 1\)"),
    ],
)
def test_pyramids_that_cannot_be(param, said):
    with pytest.raises(NetError, match=said):
        built("SPP", f"spp_param {{ {param} }}", (1, 1, 3, 3))
