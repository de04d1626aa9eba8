"""Interp: the rules of its size, values by hand, gradients."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def single(param, shape):
    text = f'layer {{ name: "l" type: "Interp" bottom: "x" top: "y" interp_param {{ {param} }} }}'
    return net(inputs(x=shape) + text)


@pytest.mark.parametrize(
    ("param", "size"),
    [
        ("shrink_factor: 2", (3, 4)),
        ("zoom_factor: 3", (13, 22)),
        ("zoom_factor: 1", (5, 8)),
        ("height: 2 width: 9", (2, 9)),
        ("height: 2 width: 9 zoom_factor: 2", (9, 15)),
        ("height: 2 width: 9 zoom_factor: 2 shrink_factor: 2", (2, 9)),
        ("zoom_factor: 3 shrink_factor: 2", (7, 10)),
        ("zoom_factor: 2 pad_beg: -1 pad_end: -2", (3, 9)),
    ],
)
def test_size(param, size):
    assert single(param, (1, 1, 5, 8)).blobs["y"].shape == (1, 1, *size)


def test_corners_stay_and_lines_are_straight():
    x = np.array([[[[0, 2, 4], [10, 12, 14]]]])
    y = single("height: 3 width: 5", x.shape).forward(x=x)["y"]
    assert np.allclose(y[0, 0], np.arange(5) + 5 * np.arange(3)[:, None], atol=1e-6)


@pytest.mark.parametrize(
    ("param", "y"),
    [
        ("shrink_factor: 2", [[0, 3], [8, 11]]),  # 2 columns out of 4: the first and the last
        ("height: 1 width: 2", [[0, 3]]),
        ("zoom_factor: 1 pad_beg: -1 pad_end: -1", [[5, 6]]),
    ],
)
def test_shrinking_takes_single_values(param, y):
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    assert single(param, x.shape).forward(x=x)["y"][0, 0].tolist() == y


@pytest.mark.parametrize("param", ["zoom_factor: 2 pad_beg: -1", "height: 2 width: 3", "zoom_factor: 1"])
def test_gradients_agree_with_finite_differences(param):
    module = single(param, (2, 2, 4, 5)).layer["l"]
    x = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_a_copy_does_not_share_memory():
    x = torch.zeros(1, 1, 2, 2)
    assert single("zoom_factor: 1", x.shape).layer["l"](x).data_ptr() != x.data_ptr()


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("", (1, 1, 2, 2), "no size"),
        ("height: 3", (1, 1, 2, 2), "no size"),
        ("zoom_factor: 0", (1, 1, 2, 2), "expected at least 1"),
        ("zoom_factor: 2 pad_beg: 1", (1, 1, 2, 2), "they crop"),
        ("zoom_factor: 2 pad_beg: -2", (1, 1, 2, 3), "cropped to 0x1"),
        ("zoom_factor: 2", (1, 2, 2), "expected 4 axes"),
    ],
)
def test_wrong_settings(param, shape, said):
    with pytest.raises(NetError, match=said):
        single(param, shape)
