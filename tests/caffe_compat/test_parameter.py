"""Parameter: a parameter blob as a top."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net

TEXT = """
layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 dim: 2 } } }
layer { name: "p" type: "Eltwise" bottom: "x" bottom: "w" top: "y" eltwise_param { operation: PROD } loss_weight: 1 }"""


def test_top_and_parameter_are_one():
    built = net(inputs(x=(1, 2)) + TEXT, caffe.TRAIN, dialect="bvlc")
    assert built.forward(x=np.array([[3, 4]]))["y"].tolist() == [[0, 0]]
    built.params["w"][0].data[...] = [[1, 2]]
    assert built.forward(x=np.array([[3, 4]]))["y"].tolist() == [[3, 8]]
    assert built.blobs["w"].data.tolist() == [[1, 2]]


def test_gradient_is_assigned_not_added():
    built = net(inputs(x=(1, 2)) + TEXT, caffe.TRAIN, dialect="bvlc")
    built.forward(x=np.array([[3, 4]]))
    for _ in range(2):
        built.backward()
    assert built.params["w"][0].diff.tolist() == built.blobs["w"].diff.tolist() == [[3, 4]]


def test_torch_learns_it():
    built = net(inputs(x=(1, 2)) + TEXT, caffe.TRAIN, dialect="bvlc")
    built(torch.tensor([[3.0, 4.0]]))["y"].sum().backward()
    assert [p.grad.tolist() for p in built.parameters()] == [[[3, 4]]]


def test_negative_size():
    with pytest.raises(NetError, match="expected no negative ones"):
        net(inputs(x=(1, 2)) + TEXT.replace("dim: 2", "dim: -2"), dialect="bvlc")
