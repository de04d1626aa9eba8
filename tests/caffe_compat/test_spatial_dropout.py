"""The Python layer SpatialDropoutLayer, which ENet's training nets name."""

import textwrap

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import net

DROPOUT = textwrap.dedent(r"""
    force_backward: true
    input: "x" input_shape { dim: 3 dim: 8 dim: 1 dim: 2 }
    layer { name: "drop" type: "Python" bottom: "x" top: "y" python_param {
      module: "spatial_dropout" layer: "SpatialDropoutLayer" param_str: "{\'phase\': \'TRAIN\', \'p\': \'0.5\'}" } }""")


def test_spatial_dropout_drops_whole_channels():
    built = net(DROPOUT, caffe.TEST)  # the phase of the net does not count
    caffe.set_random_seed(1)
    factors = built.forward(x=np.ones((3, 8, 1, 2)))["y"].copy()
    assert set(factors.ravel()) == {0, 2} and np.array_equal(factors[..., 0], factors[..., 1])
    assert not np.array_equal(factors[0], factors[2])
    diff = np.random.default_rng(0).normal(size=factors.shape).astype(np.float32)
    assert np.array_equal(built.backward(y=diff)["x"], diff * factors[2])


def test_spatial_dropout_multiplies_in_test_too():
    built = net(DROPOUT.replace("TRAIN", "TEST").replace("0.5", "0.2"), caffe.TRAIN)
    ones = np.ones((3, 8, 1, 2), np.float32)
    assert np.allclose(built.forward(x=ones)["y"], 1.25) and np.allclose(built.backward(y=ones)["x"], 1.25)


def test_spatial_dropout_wants_a_share():
    with pytest.raises(NetError, match=r"layer 'drop'.*'p' is 1\.0; expected a number between 0 and 1"):
        net(DROPOUT.replace("0.5", "1"))
