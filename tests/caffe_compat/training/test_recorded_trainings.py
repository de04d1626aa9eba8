"""Twelve iterations of every solver and policy against what Caffe computed: losses, weights, and the files it wrote."""

import re
import shutil

import numpy as np
import pytest

import caffe_compat as caffe
from prototxt.caffemodel import read_caffemodel
from prototxt.solverstate import read_solverstate
from prototxt.weights_h5 import read_weights
from tests.recorded import GOLDEN, deviation

SOLVERS = GOLDEN / "solvers"
CASES = sorted(SOLVERS.glob("*/*.npz"))
RESUMED = sorted(SOLVERS.glob("*/resumed/*.npz"))
#: AdaGrad divides the gradient by itself. That of a bias under batch normalisation is nothing but rounding, so its
#: steps are random signs; nothing else depends on such a bias.
ROUNDING = {"segnet/segnet_mini.adagrad": ("conv1:1", "conv2:1")}


def name(path):
    return f"{path.relative_to(SOLVERS).parts[0]}/{path.stem}"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to train in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay_out(folder, into):
    for path in folder.iterdir():
        if path.suffix in (".prototxt", ".h5", ".txt") and not re.search(r"_iter_\d", path.name):
            shutil.copy(path, into)


def blob_of(net, key):
    layer, index = key.rsplit(":", 1)
    return net.params[layer][int(index)].data


def train(solver, want, last):
    """Up to iteration 12. Returns the losses, and what deviates in the recorded weights."""
    losses, found = [], []
    while solver.iter < last:
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
        for key in [key for key in want if key.startswith(f"iter{solver.iter}:")]:
            of = key.partition(":")[2]
            found.append(deviation(key, blob_of(solver.net, of), want[key], 1e-4, 2e-4))
    return losses, [text for text in found if text]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_weights_take_caffes_path(case, work):
    lay_out(case.parent, work)
    want = dict(np.load(case))
    solver = caffe.get_solver(f"{case.stem}.solver.prototxt")
    for key in [key for key in want if key.startswith("init:")]:
        blob_of(solver.net, key.removeprefix("init:"))[...] = want[key]
    for key in [key for key in want if key.startswith("iter") and key.endswith(ROUNDING.get(name(case), ("none",)))]:
        del want[key]
    losses, found = train(solver, want, 12)
    assert found == [] and deviation("losses", np.array(losses), want["losses"], 1e-4, 1e-5) == ""
    compare_files(case, work)


def compare_files(case, work):
    """What the training wrote against what Caffe's wrote, field by field."""
    for theirs in case.parent.glob(f"{case.stem}_iter_*"):
        ours = work / theirs.name
        if ".solverstate" in theirs.name:
            a, b = read_solverstate(ours), read_solverstate(theirs)
            assert (a.iteration, a.learned_net, a.current_step) == (b.iteration, b.learned_net, b.current_step)
            pairs = list(zip(a.history, b.history, strict=True))
        else:
            a, b = read_weights(ours), read_weights(theirs)
            if theirs.suffix != ".h5":
                header, other = read_caffemodel(ours), read_caffemodel(theirs)
                assert header.header == other.header and header.generation == other.generation
            assert [layer.message for layer in a.layers] == [layer.message for layer in b.layers]
            pairs = [
                (x.data, y.data)
                for one, other in zip(a.layers, b.layers, strict=True)
                for x, y in zip(one.blobs, other.blobs, strict=True)
            ]
        assert [x.shape for x, _ in pairs] == [y.shape for _, y in pairs]
        for x, y in pairs:
            # the history of a bias under batch normalisation is nothing but rounding
            assert np.abs(x - y).max() <= 2e-4 * max(np.abs(y).max(), 1e-2)


@pytest.mark.parametrize("case", RESUMED, ids=name)
def test_training_goes_on_from_caffes_snapshot(case, work):
    folder = case.parents[1]
    lay_out(folder, work)
    for path in folder.glob(f"{case.stem}_iter_6.*"):
        shutil.copy(path, work)
    want = dict(np.load(case))
    solver = caffe.get_solver(f"{case.stem}.solver.prototxt")
    solver.restore(next(work.glob("*_iter_6.solverstate*")))
    losses, found = train(solver, want, 12)
    assert found == [] and deviation("losses", np.array(losses), want["losses"], 1e-4, 1e-5) == ""


def test_recordings_are_there():
    assert len(CASES) == 28 and len(RESUMED) == 8
