"""Lean passes against the faithful one, on the recorded trainings' nets."""

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import SolverError
from tests.caffe_compat.training.test_recorded_trainings import SOLVERS, blob_of, lay_out


@pytest.fixture(params=["segnet/segnet_mini.sgd_fixed", "bvlc/fcn_mini.nesterov", "segnet/segnet_mini.sgd_iter_size"])
def trained(request, tmp_path, monkeypatch):
    """A function that trains some iterations from Caffe's initial weights, and gives the losses and all weights."""
    dialect, _, name = request.param.partition("/")
    lay_out(SOLVERS / dialect, tmp_path)
    monkeypatch.chdir(tmp_path)
    want = np.load(SOLVERS / f"{request.param}.npz")

    def train(iterations, **options):
        solver = caffe.get_solver(f"{name}.solver.prototxt", **options)
        for key in [key for key in want.files if key.startswith("init:")]:
            blob_of(solver.net, key.removeprefix("init:"))[...] = want[key]
        losses = []
        for _ in range(iterations):
            solver.step(1)
            losses.append(solver.loss)
        weights = [blob.data.ravel() for blobs in solver.net.params.values() for blob in blobs]
        return losses, np.concatenate(weights)

    return train


@pytest.mark.parametrize("options", [dict(channels_last=True), dict(checkpointing=True)])
def test_numbers_stay(trained, options):
    losses, weights = trained(5)
    lean, lean_weights = trained(5, **options)
    assert np.allclose(lean, losses, rtol=1e-4) and np.abs(lean_weights - weights).max() < 1e-3


def test_half_precision_takes_the_same_path(trained):
    losses, _ = trained(12)
    lean, _ = trained(12, precision="bf16", channels_last=True, checkpointing=True)
    assert lean != losses and np.allclose(lean, losses, rtol=0.05)


def test_unknown_precision(tmp_path, monkeypatch):
    lay_out(SOLVERS / "bvlc", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SolverError, match="'int8'; expected one of fp32, bf16, fp16"):
        caffe.get_solver("fcn_mini.adam.solver.prototxt", precision="int8")


NORM = """
input: "x" input_shape { dim: 4 dim: 2 dim: 3 dim: 3 }
layer { name: "norm" type: "BatchNorm" bottom: "x" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "z" }
layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: 1 }
"""


def test_statistics_are_stored_once(tmp_path, monkeypatch):
    (tmp_path / "net.prototxt").write_text(NORM)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0 lr_policy: "fixed"')
    monkeypatch.chdir(tmp_path)
    stored = []
    for options in ({}, {"checkpointing": True}):
        solver = caffe.get_solver("solver.prototxt", **options)
        solver.net.blobs["x"].data[...] = np.random.default_rng(0).normal(size=(4, 2, 3, 3))
        solver.step(2)
        stored.append(np.concatenate([blob.data.ravel() for blob in solver.net.params["norm"]]))
    assert np.allclose(*stored) and stored[0][-1] == pytest.approx(1.999)
