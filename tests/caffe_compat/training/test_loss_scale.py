"""The scaling of the loss in fp16 trainings."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.training.loss_scale import LossScale

NET = """
input: "x" input_shape { dim: 2 dim: 3 dim: 8 dim: 8 }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "y" convolution_param {
  num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "conv2" type: "Convolution" bottom: "y" top: "z" convolution_param {
  num_output: 2 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: %s reduction_param { operation: SUMSQ } }
"""


@pytest.fixture
def gradients(tmp_path, monkeypatch):
    """A function of the loss's weight, and options, that gives the gradients of one step and its solver."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" momentum: 0 random_seed: 1 snapshot_prefix: "s"'
    )

    def step(weight, **options):
        (tmp_path / "net.prototxt").write_text(NET % weight)
        solver = caffe.get_solver("solver.prototxt", **options)
        solver.net.blobs["x"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
        solver.step(1)
        return np.concatenate([b.diff.ravel() for blobs in solver.net.params.values() for b in blobs]), solver

    return step


def test_small_gradients_survive(gradients, monkeypatch):
    want, _ = gradients("1e-9")
    got, _ = gradients("1e-9", precision="fp16")
    assert np.abs(got - want).max() < 0.01 * np.abs(want).max()
    monkeypatch.setattr("caffe_compat.training.loss_scale._START", 1.0)
    lost, _ = gradients("1e-9", precision="fp16")
    assert np.abs(lost - want).max() > 0.5 * np.abs(want).max()


def test_a_scale_that_is_too_large_is_halved_within_the_pass(gradients):
    want, _ = gradients("10")
    got, solver = gradients("10", precision="fp16")
    assert solver.loss_scale.scale < 2**16
    assert np.abs(got - want).max() < 0.01 * np.abs(want).max()


def test_passes_add_up():
    weight = torch.nn.Parameter(torch.ones(3))
    scale = LossScale()
    for _ in range(2):
        scale.backward((weight * torch.tensor([1.0, 2.0, 3.0])).sum(), [weight])
    assert weight.grad.tolist() == [2, 4, 6]


def test_it_grows_after_many_that_fit(monkeypatch):
    monkeypatch.setattr("caffe_compat.training.loss_scale._PATIENCE", 2)
    weight = torch.nn.Parameter(torch.ones(1))
    scale = LossScale()
    scales = []
    for _ in range(5):
        scale.backward(weight.sum(), [weight])
        scales.append(scale.scale / 2**16)
    assert scales == [1, 2, 2, 4, 4]


def test_what_never_fits_is_handed_on():
    weight = torch.nn.Parameter(torch.ones(2))
    scale = LossScale()
    scale.backward((weight * torch.tensor([1.0, torch.inf])).sum(), [weight])
    assert scale.scale == 1 and weight.grad.tolist() == [1, torch.inf]


def test_a_resumed_training_keeps_it(gradients):
    _, solver = gradients("10", precision="fp16")
    state = solver.snapshot()
    again = caffe.get_solver("solver.prototxt", precision="fp16")
    again.restore(state)
    assert again.loss_scale.state() == solver.loss_scale.state() != LossScale().state()
