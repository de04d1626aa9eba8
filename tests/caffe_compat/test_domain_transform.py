"""DomainTransform against a plain loop, and its gradients."""

import math

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def single(kind="DomainTransform", param="", n=1, size=(4, 5), rounds=2):
    text = (
        inputs(x=(n, 2, *size), g=(n, 1, *size), dim=(n, 1, 1, 2))
        + f"""
layer {{ name: "l" type: "{kind}" bottom: "x" bottom: "g" bottom: "dim" top: "y"
  domain_transform_param {{ num_iter: {rounds} spatial_sigma: 3 range_sigma: 2 {param} }} }}"""
    )
    return net(f"force_backward: true {text}")


def by_hand(x, g, height, width, least, most):
    """One item: x (C, H, W), g (H, W)."""
    y = x.astype(float).copy()
    for i in range(2):
        sigma = 3 * math.sqrt(3) * 2 ** (2 - i - 1) / math.sqrt(4**2 - 1)
        a = np.clip(np.exp(-math.sqrt(2) / sigma * (1 + g * 3 / 2)), least, most)
        for w in range(1, width):
            y[:, :height, w] += a[:height, w] * (y[:, :height, w - 1] - y[:, :height, w])
        for w in range(width - 2, -1, -1):
            y[:, :height, w] += a[:height, w + 1] * (y[:, :height, w + 1] - y[:, :height, w])
        for h in range(1, height):
            y[:, h, :width] += a[h, :width] * (y[:, h - 1, :width] - y[:, h, :width])
        for h in range(height - 2, -1, -1):
            y[:, h, :width] += a[h + 1, :width] * (y[:, h + 1, :width] - y[:, h, :width])
    return y


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("DomainTransform", 0.2, 1), ("DomainTransformForwardOnly", 0, math.inf)]
)
def test_values(kind, least, most):
    random = np.random.default_rng(0)
    x, g = random.normal(size=(2, 2, 4, 5)), random.normal(size=(2, 1, 4, 5))
    sizes = [(4, 5), (2, 3)]
    y = single(kind, "min_weight: 0.2", n=2).forward(x=x, g=g, dim=np.array(sizes).reshape(2, 1, 1, 2))["y"]
    for item, size in enumerate(sizes):
        assert np.allclose(y[item], by_hand(x[item], g[item, 0], *size, least, most), atol=1e-5)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    module = single().layer["l"]
    x, g = torch.randn(1, 2, 4, 5, dtype=torch.float64), torch.rand(1, 1, 4, 5, dtype=torch.float64)
    sizes = torch.tensor([3.0, 4]).view(1, 1, 1, 2)
    assert torch.autograd.gradcheck(lambda x, g: module(x, g, sizes), (x.requires_grad_(), g.requires_grad_()))


def test_weights_at_their_bound_still_learn():
    built = single(param="min_weight: 0.5", size=(1, 2), rounds=1)
    arrays = dict(
        x=np.array([[[[1.0, 0]], [[0, 0]]]]), g=np.full((1, 1, 1, 2), 9.0), dim=np.array([1, 2]).reshape(1, 1, 1, 2)
    )
    y = built.forward(**arrays)["y"].copy()
    assert y[0, 0, 0].tolist() == [0.75, 0.5]
    # y1 = a x0 with a = 0.5; the gradient of a by g is -sqrt(2) / sigma · 3/2 · a, and sigma = 3 for one round
    diffs = built.backward(y=np.array([[[[0.0, 1]], [[0, 0]]]]))
    assert np.isclose(diffs["g"][0, 0, 0, 1], -math.sqrt(2) / 3 * 1.5 * 0.5) and diffs["g"][0, 0, 0, 0] == 0


def test_no_gradient_passes_the_forward_only_kind():
    built = single("DomainTransformForwardOnly")
    built.forward(x=np.ones((1, 2, 4, 5)), g=np.ones((1, 1, 4, 5)), dim=np.array([4, 5]).reshape(1, 1, 1, 2))
    diffs = built.backward(y=np.ones((1, 2, 4, 5)))
    assert not diffs["x"].any() and not diffs["g"].any()


def test_size_beyond_the_plane():
    with pytest.raises(NetError, match="size 5x5; expected 1x1 to 4x5"):
        single().forward(x=np.ones((1, 2, 4, 5)), g=np.ones((1, 1, 4, 5)), dim=np.full((1, 1, 1, 2), 5))


def test_wrong_settings():
    with pytest.raises(NetError, match="at least one round"):
        single(rounds=0)
    with pytest.raises(NetError, match=r"expected edges \(1, 1, 2, 2\) and sizes \(1, 1, 1, 2\)"):
        net(
            inputs(x=(1, 2, 2, 2), g=(1, 2, 2, 2), dim=(1, 1, 1, 2))
            + 'layer { name: "l" type: "DomainTransform" bottom: "x" bottom: "g" bottom: "dim" top: "y" }'
        )
