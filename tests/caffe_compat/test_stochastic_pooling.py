"""Pooling with ``pool: STOCHASTIC``."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def pooled(param, shape, phase):
    text = f'layer {{ name: "l" type: "Pooling" bottom: "x" top: "y" pooling_param {{ pool: STOCHASTIC {param} }} }}'
    return net(inputs(x=shape) + text, phase)


def test_mean_by_value_in_test():
    x = np.array([[[[1, 3, 2], [0, 0, 0], [0, 0, 5]]]])
    y = pooled("kernel_size: 2 stride: 2", x.shape, caffe.TEST).forward(x=x)["y"]
    assert np.allclose(y, [[[[10 / 4, 2], [0, 5]]]])  # the last windows hang over


def test_drawn_by_value_in_training():
    torch.manual_seed(0)
    x = torch.tensor([0.0, 1, 0, 3, 0, 0]).expand(20000, 1, 1, 6).clone()
    y = pooled("kernel_h: 1 kernel_w: 6", x.shape, caffe.TRAIN)(x)["y"]
    assert set(y.unique().tolist()) == {1, 3} and abs((y == 3).float().mean() - 0.75) < 0.01


def test_gradient_goes_to_the_drawn_value():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 5, 5, requires_grad=True)
    y = pooled("kernel_size: 2 stride: 2", x.shape, caffe.TRAIN)(x)["y"]
    (gradient,) = torch.autograd.grad(y, x, 1 + torch.arange(54.0).view(2, 3, 3, 3))
    chosen = gradient != 0
    assert chosen.sum() == 54 and torch.equal(x[chosen].sort().values, y.flatten().sort().values)


def test_window_of_zeros():
    for phase in (caffe.TRAIN, caffe.TEST):
        x = torch.zeros(1, 1, 2, 2, requires_grad=True)
        y = pooled("kernel_size: 2", x.shape, phase)(x)["y"]
        y.sum().backward()
        assert y.item() == 0 and x.grad.isfinite().all()


def test_gradient_of_the_mean():
    layer = pooled("kernel_size: 3 stride: 2", (1, 2, 6, 5), caffe.TEST).layer["l"]
    assert torch.autograd.gradcheck(layer, 0.1 + torch.rand(1, 2, 6, 5, dtype=torch.float64).requires_grad_())


def test_no_padding():
    with pytest.raises(NetError, match=r"pad \(1, 1\) with `pool: STOCHASTIC`"):
        pooled("kernel_size: 2 pad: 1", (1, 1, 4, 4), caffe.TEST)
