"""Layers whose classes the user wrote in Python for pycaffe."""

import copy
import pickle

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs
from tests.caffe_compat.python_layers import beside_mine, python


@pytest.fixture
def build(tmp_path):
    with beside_mine(tmp_path) as from_text:
        yield from_text


X = np.array([[1.0, -2, 3], [4, 5, -6]])


def test_forward_and_backward_as_pycaffe(build):
    built = build("force_backward: true " + inputs(x=(2, 3)) + python("Times", "x", "y", "2.5"))
    y = built.blobs["y"].data
    built.forward(x=X)
    assert np.array_equal(y, 2.5 * X) and built.layers[-1].sizes == (2, 3, 1, 1)
    assert built.layers[-1].phases == [True] and built.layers[-1].type == "Python"
    assert np.array_equal(built.backward(y=X)["x"], 2.5 * X)
    built.blobs["x"].reshape(1, 3)
    assert np.array_equal(built.forward(x=X[:1])["y"], 2.5 * X[:1])


def test_passes_in_torch_do_not_touch_each_other(build):
    built = build(inputs(x=(2, 3)) + python("Square", "x", "y"))
    first, second, other = (torch.tensor(X).float().requires_grad_() for _ in range(3))
    y = built(x=first)["y"]
    built(x=2 * second)["y"].sum().backward()
    (y + other).sum().backward()
    assert np.array_equal(y.detach(), X**2) and np.array_equal(first.grad, 2 * X)
    assert np.array_equal(second.grad, 8 * X) and (other.grad == 1).all()
    assert np.array_equal(torch.compile(built, backend="eager")(x=first.detach())["y"], X**2)


def test_gradients_agree_with_finite_differences(build):
    layer = build(inputs(x=(2, 3)) + python("Weights", "x", "y")).double().layer["weights"]
    assert torch.autograd.gradcheck(lambda x, w: layer(x)[0], (torch.tensor(X).requires_grad_(), layer.blob0))
    layer = build(inputs(x=(2, 3), z=(2, 3)) + python("Distance", "x z", "loss")).double().layer["distance"]
    assert torch.autograd.gradcheck(layer, tuple(torch.tensor(v).requires_grad_() for v in (X, X**2)))


@pytest.mark.parametrize(("weight", "expected"), [("", 0.0), ("loss_weight: 3", 3.0)])
def test_a_loss_only_with_a_weight(build, weight, expected):
    scale = 'layer { name: "scale" type: "Scale" bottom: "x" top: "s" }'
    built = build(inputs(x=(2, 3), z=(2, 3)) + scale + python("Distance", "s z", "loss", more=weight), caffe.TRAIN)
    assert built.forward(x=X, z=0 * X)["loss"][0] == (X**2).sum() / 4
    built.backward()
    assert np.allclose(built.params["scale"][0].diff, expected * (X**2).sum(0) / 2)
    assert not weight or built.layers[-1].asked == [True, False]


def test_a_data_layer_sets_the_size_of_each_pass(build):
    pool = 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param { kernel_size: 2 } }'
    size = "upsample_param { upsample_h: 9 upsample_w: 3 }"
    up = f'layer {{ name: "u" type: "Upsample" bottom: "p" bottom: "m" top: "u" {size} }}'
    built = build(inputs(other=(1,)) + python("Pictures", "", "x n") + pool + up)
    for height in (2, 3):
        tops = built.forward()
        assert built.blobs["x"].shape == (1, 1, height, 3) and tops["n"] == height
        assert built.blobs["p"].shape == (1, 1, height - 1, 2) and tops["u"].max() == 2
    assert built(n=torch.ones(1), x=torch.ones(1, 1, 2, 3))["u"].sum() == 2  # fed, so that nothing is read
    assert built(other=torch.ones(1))["n"] == 4 and built.blobs["x"].shape == (1, 1, 4, 3)


@pytest.mark.parametrize("bottom", ["x", ""])
@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_learnt_blobs(build, tmp_path, bottom, suffix):
    text = "force_backward: true " + (inputs(x=(2, 3)) if bottom else "") + python("Weights", bottom, "y")
    built = build(text, caffe.TRAIN)
    x, factor = ({"x": X}, X) if bottom else ({}, np.ones((1, 3)))
    weights, count = built.params["weights"]
    assert weights.data.tolist() == [1, 2, 3] and built.layers[-1].blobs[0] is weights
    assert np.array_equal(built.forward(**x)["y"], factor * [1, 2, 3])
    for times in (1, 2):
        built.backward(y=np.ones_like(factor))
        assert np.array_equal(weights.diff, times * factor.sum(0))
    weights.data[...] -= weights.diff
    built.forward(**x)
    built.save(tmp_path / f"w.{suffix}")
    other = build(text)
    other.copy_from(tmp_path / f"w.{suffix}")
    assert np.array_equal(other.params["weights"][0].data, weights.data) and other.params["weights"][1].data == 2
    assert np.array_equal(other.forward(**x)["y"], factor * weights.data)
    assert count.data == 2 and other.params["weights"][1].data == 3


def test_an_optimiser_moves_the_blobs(build):
    built = build(inputs(x=(2, 3)) + python("Weights", "x", "y"), caffe.TRAIN)
    optimiser = torch.optim.SGD(built.parameters(), 1.0)
    built(x=torch.tensor(X).float())["y"].sum().backward()
    optimiser.step()
    assert built.params["weights"][0].data.tolist() == [1 - 5, 2 - 3, 3 + 3]
    assert np.array_equal(built(x=torch.ones(1, 3))["y"].detach(), [[-4, -1, 6]])


def test_in_place(build):
    times = python("Times", "x", "y", "-1").replace("times", "first")
    built = build("force_backward: true " + inputs(x=(2, 3)) + times + python("Positive", "y", "y"))
    expected = np.maximum(-X, 0)
    assert np.array_equal(built.forward(x=X)["y"], expected)
    assert np.array_equal(built.backward(y=X)["x"], -X * (X < 0))
    x = torch.tensor(X).float().requires_grad_()
    y = built(x=x)["y"]
    y.sum().backward()
    assert np.array_equal(y.detach(), expected) and np.array_equal(x.grad, -1.0 * (X < 0))


@pytest.mark.parametrize("method", ["__init__", "setup", "reshape"])
def test_an_exception_while_the_net_is_built(build, method):
    with pytest.raises(
        NetError, match=rf"net\.prototxt:2: layer 'broken' \(Python\): mine\.Broken\.{method} raised KeyError"
    ) as caught:
        build(inputs(x=(2, 3)) + python("Broken", "x", "y", method))
    assert isinstance(caught.value.__cause__, KeyError) and caught.traceback


def test_an_exception_in_a_pass(build):
    built = build("force_backward: true " + inputs(x=(2, 3)) + python("Broken", "x", "y"))
    x = torch.tensor(X).float().requires_grad_()

    def fails(method, run):
        built.layers[-1].user.param_str = method
        with pytest.raises(
            NetError, match=rf":2: layer 'broken' \(Python\): mine\.Broken\.{method} raised Key"
        ) as caught:
            run()
        assert isinstance(caught.value.__cause__.__cause__, KeyError)
        built.layers[-1].user.param_str = ""

    fails("forward", lambda: built.forward(x=X))
    built.forward(x=X)
    y = built(x=x)["y"].sum()
    fails("backward", built.backward)
    fails("backward", y.backward)
    built.blobs["x"].reshape(1, 3)
    built.layers[-1].user.param_str = "reshape"
    with pytest.raises(NetError, match="layer 'broken'") as caught:
        built.reshape()
    assert isinstance(caught.value.__cause__.__cause__.__cause__, KeyError)


def test_a_layer_without_backward(build):
    text = inputs(x=(2, 3)) + python("Metric", "x", "y")
    built = build(text)
    built.forward(x=X)
    built.backward()  # nobody asks
    built = build("force_backward: true " + text)
    built.forward(x=X)
    for run in (built.backward, built(x=torch.tensor(X).requires_grad_())["y"].sum().backward):
        with pytest.raises(NetError, match=r"layer 'metric'.*has no backward pass"):
            run()


def test_phase(build):
    built = build(inputs(x=(2, 3)) + python("Metric", "x", "y"), caffe.TRAIN)
    user = built.layers[-1].user
    assert (user.phase, built.eval() and user.phase) == (caffe.TRAIN, caffe.TEST)
    user.phase = "always"
    built.train()
    assert user.phase == "always"


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copies_are_equal_and_independent(build, clone):
    first = build(inputs(x=(2, 3)) + python("Weights", "x", "y"))
    y = first.forward(x=X)["y"].copy()
    second = clone(first)
    second.params["weights"][0].data[...] = 0
    assert np.array_equal(first.forward(x=X)["y"], y) and not second.forward(x=X)["y"].any()
    assert second.layers[-1].user is not first.layers[-1].user
