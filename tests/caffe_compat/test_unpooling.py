"""Unpooling of DeconvNet's fork."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def unpooling(param, *shapes):
    names = ("x", "mask")[: len(shapes)]
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    text = (
        f'force_backward: true layer {{ name: "l" type: "Unpooling" {bottoms} top: "y" unpooling_param {{ {param} }} }}'
    )
    return net(inputs(**dict(zip(names, shapes, strict=True))) + text, dialect="deconvnet")


def by_hand(x, size, kernel, stride, share, g):
    """One plane filled window by window, and Caffe's gradient for the diff ``g`` of the top."""
    y, dx = np.zeros(size), np.zeros(x.shape)
    for i, j in np.ndindex(x.shape):
        window = np.s_[i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]]
        area = max(y[window].size, 1)
        y[window] += x[i, j] / (area if share else 1)
        dx[i, j] = g[window].sum() / area
    return y, dx


@pytest.mark.parametrize("method", ["AVE", "TILE"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [
        ((6, 8), (2, 2), (2, 2)),
        ((7, 9), (3, 3), (2, 2)),
        ((5, 4), (3, 2), (2, 3)),
        ((9, 9), (2, 2), (1, 1)),
        ((3, 3), (1, 1), (2, 2)),
    ],
)
def test_windows_are_filled(method, size, kernel, stride):
    words = zip(("unpool", "kernel", "stride"), (size, kernel, stride), strict=True)
    param = " ".join(f"{name}_h: {h} {name}_w: {w}" for name, (h, w) in words)
    made = unpooling(f"unpool: {method} {param}", (1, 2, 3, 4))
    random = np.random.default_rng(0)
    x, g = random.normal(size=(1, 2, 3, 4)), random.normal(size=(1, 2, *size))
    want = [by_hand(x[0, c], size, kernel, stride, method == "AVE", g[0, c]) for c in (0, 1)]
    assert np.allclose(made.forward(x=x)["y"][0], [y for y, _ in want], atol=1e-6)
    made.blobs["y"].diff[...] = g
    made.backward()
    assert np.allclose(made.blobs["x"].diff[0], [dx for _, dx in want], atol=1e-6)


def test_values_at_the_places_of_the_mask():
    made = unpooling("kernel_size: 2 unpool_h: 2 unpool_w: 3", (1, 1, 1, 3), (1, 1, 1, 3))
    y = made.forward(x=np.array([[[[1, 2, 3]]]]), mask=np.array([[[[5, 0, 5]]]]))["y"]
    assert y.tolist() == [[[[2, 0, 0], [0, 0, 3]]]]  # the last for a place stays
    made.blobs["y"].diff[...] = [[[[1, 2, 3], [4, 5, 6]]]]
    made.backward()
    assert made.blobs["x"].diff.tolist() == [[[[6, 1, 6]]]] and not made.blobs["mask"].diff.any()


def test_values_in_the_corners_of_their_windows():
    made = unpooling("kernel_size: 2 stride: 2 unpool_size: 3", (1, 1, 2, 3))
    y = made.forward(x=np.array([[[[1, 2, 3], [4, 5, 6]]]]))["y"]
    assert y.tolist() == [[[[1, 0, 3], [0, 0, 0], [4, 0, 6]]]]  # 3 and 6 lie beyond the edge and win there
    made.blobs["y"].diff[...] = np.arange(9).reshape(1, 1, 3, 3)
    made.backward()
    assert made.blobs["x"].diff.tolist() == [[[[0, 2, 2], [6, 8, 8]]]]


def test_gradients_of_ave():
    layer = unpooling("unpool: AVE kernel_size: 3 stride: 2 unpool_size: 6", (1, 2, 3, 3)).layer["l"]
    assert torch.autograd.gradcheck(layer, torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("param", "bottoms", "said"),
    [
        ("kernel_size: 2", 1, "output size missing"),
        ("unpool_size: 4", 1, "kernel missing"),
        ("kernel_size: 2 unpool_h: 4", 1, "`unpool_h` is given alone"),
        ("kernel_size: 2 unpool_size: 4 unpool_h: 4 unpool_w: 4", 1, "both `unpool_size` and `unpool_h`"),
        ("kernel_size: 0 unpool_size: 4", 1, r"kernel \(0, 0\)"),
        ("kernel_size: 2 stride: 0 unpool_size: 4", 1, r"stride \(0, 0\)"),
        ("kernel_size: 2 pad: 1 unpool_size: 4", 1, "padding is given"),
        ("unpool: AVE kernel_size: 2 unpool_size: 4", 2, "only MAX takes a mask"),
        ("unpool: TILE kernel_size: 2 unpool_size: 4", 2, "only MAX takes a mask"),
    ],
)
def test_parameters_that_do_not_fit(param, bottoms, said):
    with pytest.raises(NetError, match=said):
        unpooling(param, *[(1, 1, 2, 2)] * bottoms)


def test_mask_of_another_shape_or_beyond_the_plane():
    with pytest.raises(NetError, match="differ in shape"):
        unpooling("kernel_size: 2 unpool_size: 4", (1, 1, 2, 2), (1, 1, 2, 3))
    made = unpooling("kernel_size: 2 unpool_size: 2", (1, 1, 1, 1), (1, 1, 1, 1))
    for position in (-1, 4):
        with pytest.raises(NetError, match="expected 0 to 3 for an output plane of 2x2"):
            made.forward(x=np.ones((1, 1, 1, 1)), mask=np.full((1, 1, 1, 1), position))


@pytest.mark.parametrize(("size", "raises"), [(7, True), (9, False)])
def test_plane_of_the_pooling(size, raises, caplog):
    text = (
        inputs(x=(1, 1, 8, 8))
        + f"""
layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "u" type: "Unpooling" bottom: "p" bottom: "m" top: "y"
  unpooling_param {{ kernel_size: 2 stride: 2 unpool_size: {size} }} }}"""
    )
    if raises:
        with pytest.raises(NetError, match="expected `unpool_h: 8 unpool_w: 8`"):
            net(text, dialect="deconvnet")
    else:
        net(text, dialect="deconvnet")
        assert "the maps are not aligned" in caplog.text
