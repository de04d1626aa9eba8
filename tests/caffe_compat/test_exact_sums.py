"""Convolutions that positions hang on: as exact as a matrix product, with the gradients of one sum."""

import pytest
import torch
import torch.nn.functional as F

import caffe_compat as caffe
from caffe_compat.build_graph import build_graph
from prototxt.net_file import NetFile
from segnet.networks import NETWORKS
from tests.caffe_compat.nets import inputs, net

TEXT = """force_backward: true {inputs}
layer {{ name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {{ num_output: 32 kernel_size: {kernel}
  pad: {pad} weight_filler {{ type: "gaussian" std: 0.05 }} bias_filler {{ type: "gaussian" std: 1 }} }} }}
layer {{ name: "p" type: "Pooling" bottom: "y" top: "p" {mask} pooling_param {{ kernel_size: 2 stride: 2 }} }}"""


def convolved(channels, kernel, mask='top: "m"', phase=caffe.TEST):
    """The net with random values in it, its bottom, weight and bias as tensors, and the top by its pycaffe face."""
    torch.manual_seed(0)
    shape = (2, channels, 24, 32)
    built = net(TEXT.format(inputs=inputs(x=shape), kernel=kernel, pad=kernel // 2, mask=mask), phase)
    x = torch.rand(shape)
    built.blobs["x"].data[...] = x.numpy()
    weight, bias = (blob.parameter.detach().clone() for blob in built.params["c"])
    built.forward()
    return built, x, weight, bias, torch.from_numpy(built.blobs["y"].data.copy())


@pytest.mark.parametrize(("channels", "kernel"), [(512, 3), (100, 3), (64, 7), (512, 1), (3, 3)])
def test_sums_are_as_exact_as_a_matrix_product(channels, kernel):
    _, x, weight, bias, top = convolved(channels, kernel)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=kernel // 2)
    columns = F.unfold(x, kernel, padding=kernel // 2)
    product = (weight.flatten(1) @ columns + bias[:, None]).view_as(exact)

    def error(values):
        return (values.double() - exact).square().mean().sqrt()

    assert error(top) <= 4 * error(product)
    whole = error(F.conv2d(x, weight, bias, padding=kernel // 2))
    assert error(top) <= (0.7 if channels == 512 and kernel == 3 else 1.02) * whole


@pytest.mark.parametrize("mask", ["", 'top: "m"'], ids=["no mask", "a mask"])
def test_only_what_a_mask_hangs_on_is_summed_otherwise(mask):
    _, x, weight, bias, top = convolved(96, 3, mask)
    assert torch.equal(top, F.conv2d(x, weight, bias, padding=1)) == (not mask)


def test_called_with_tensors_it_is_torchs_own():
    built, x, weight, bias, _ = convolved(96, 3)
    with torch.no_grad():
        assert torch.equal(built(x)["p"], F.max_pool2d(F.conv2d(x, weight, bias, padding=1), 2, 2))


def test_gradients_are_those_of_one_convolution():
    built, x, weight, bias, top = convolved(96, 3, phase=caffe.TRAIN)
    gradient = torch.randn(top.shape)
    tensors = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    F.conv2d(*tensors, padding=1).backward(gradient)
    built.clear_param_diffs()
    built.blobs["y"].diff[...] = gradient.numpy()
    built.backward(start="c", end="c")
    weight_diff, bias_diff = (torch.from_numpy(blob.diff) for blob in built.params["c"])
    assert torch.equal(torch.from_numpy(built.blobs["x"].diff), x.grad)
    assert torch.equal(weight_diff, weight.grad)
    assert torch.allclose(bias_diff.double(), gradient.double().sum((0, 2, 3)), rtol=1e-4)


def marked(name):
    graph = build_graph(NetFile.from_message(NETWORKS[name](64, 64)), caffe.TEST)
    return {node.layer.name for node in graph.nodes if node.decides_positions}


def test_positions_hang_on_the_encoder():
    found = marked("segnet")
    assert {"conv1_1", "conv1_1_bn", "relu1_1", "pool1", "conv5_3", "pool5"} <= found
    assert not any(name.startswith("upsample") or name.endswith("_D") for name in found)
    assert marked("fcn") == set()
