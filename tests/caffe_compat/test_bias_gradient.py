"""The gradient of a convolution's bias: a sum of its own, which keeps its digits."""

import pytest
import torch

import caffe_compat as caffe
from tests.caffe_compat.nets import inputs, net


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("dims", [(2, 3, 40, 50), (2, 2, 3, 8, 9)], ids=["axis 1", "axis 2"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_bias_gradient_is_the_sum_of_the_tops(kind, dims, half):
    axis = len(dims) - 3
    built = net(
        inputs(x=dims)
        + f"""
        layer {{ name: "c" type: "{kind}" bottom: "x" top: "y" convolution_param {{ num_output: 4 kernel_size: 3
          axis: {axis} weight_filler {{ type: "xavier" }} bias_filler {{ type: "gaussian" }} }} }}""",
        caffe.TRAIN,
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = built(x=torch.randn(dims))["y"]
    gradient = (1 + torch.randn(y.shape)).to(y.dtype)
    y.backward(gradient)
    expected = gradient.double().sum([other for other in range(y.dim()) if other != axis])
    assert torch.allclose(built.params["c"][1].parameter.grad.double(), expected, rtol=1e-5)
