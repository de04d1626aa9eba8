"""Snapshots: a training that stopped goes on as if it had not, ours bit by bit and Caffe's as Caffe does."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import SolverError
from prototxt.errors import FormatError, MissingFileError
from prototxt.solverstate import read_solverstate
from prototxt.weights_h5 import read_weights
from tests.caffe_compat.training.nets import NET, SOLVER, lay_out

DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "score" top: "score" }\n'
DROPPING = NET.replace('layer { name: "accuracy"', DROPOUT + 'layer { name: "accuracy"')
DROPPING = DROPPING.replace("batch_size: 4", "batch_size: 4 shuffle: true")


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, DROPPING, SOLVER + "snapshot: 4")
    return tmp_path


def weights(trained):
    return np.concatenate([blob.data.ravel() for blobs in trained.net.params.values() for blob in blobs])


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_resumed_training_is_the_same_bit_by_bit(work, kind, form):
    lay_out(work, DROPPING, SOLVER + f'snapshot: 4 type: "{kind}" snapshot_format: {form}')
    whole = caffe.get_solver("solver.prototxt")
    whole.step(10)
    resumed = caffe.get_solver("solver.prototxt")
    resumed.restore("small_iter_4.solverstate" + (".h5" if form == "HDF5" else ""))
    assert resumed.iter == 4
    resumed.step(6)
    assert np.array_equal(weights(whole), weights(resumed))


def test_without_our_own_file_the_data_starts_over(work, caplog):
    caplog.set_level(logging.INFO)
    caffe.get_solver("solver.prototxt").step(4)
    (work / "small_iter_4.resume.json").unlink()
    resumed = caffe.get_solver("solver.prototxt")
    resumed.restore("small_iter_4.solverstate")
    assert "the data starts over, as in Caffe" in caplog.text
    resumed.step(1)
    assert resumed.iter == 5


def test_snapshots_moved_elsewhere(work):
    caffe.get_solver("solver.prototxt").step(4)
    (work / "kept").mkdir()
    for path in list(work.glob("small_iter_4.*")):
        path.rename(work / "kept" / path.name)
    resumed = caffe.get_solver("solver.prototxt")
    resumed.restore("kept/small_iter_4.solverstate")
    assert resumed.iter == 4


def test_last_snapshot_and_its_name(work):
    trained = caffe.get_solver("solver.prototxt")
    trained.solve()
    assert sorted(path.name for path in work.glob("*.solverstate")) == [
        f"small_iter_{n}.solverstate" for n in (10, 4, 8)
    ]
    lay_out(
        work, DROPPING, SOLVER.replace('snapshot_prefix: "small"', 'snapshot_prefix: "new/"') + "snapshot_diff: true"
    )
    caffe.get_solver("solver.prototxt").snapshot()
    assert read_weights("new/solver_iter_0.caffemodel").layers[1].blobs[0].diff is not None


def test_state_of_another_training(work):
    caffe.get_solver("solver.prototxt").step(4)
    lay_out(work, DROPPING, SOLVER + "type: 'Adam'")
    with pytest.raises(SolverError, match="2 histories; expected 4, for 2 parameters and `type: 'Adam'`"):
        caffe.get_solver("solver.prototxt").restore("small_iter_4.solverstate")
    lay_out(work, DROPPING.replace("num_output: 2", "num_output: 3"), SOLVER)
    with pytest.raises(SolverError, match=r"history 0 has the shape \(2, 4\); expected \(3, 4\)"):
        caffe.get_solver("solver.prototxt").restore("small_iter_4.solverstate")


def test_our_own_file_spoilt(work):
    caffe.get_solver("solver.prototxt").step(4)
    path = work / "small_iter_4.resume.json"
    good = json.loads(path.read_text())
    for bad in ("{", json.dumps({**good, "iteration": 3}), json.dumps({**good, "data": []}), "[]"):
        path.write_text(bad)
        with pytest.raises(FormatError, match="delete it to resume as Caffe does"):
            caffe.get_solver("solver.prototxt").restore("small_iter_4.solverstate")


def test_weights_are_gone(work):
    caffe.get_solver("solver.prototxt").step(4)
    (work / "small_iter_4.caffemodel").unlink()
    with pytest.raises(MissingFileError, match=r"small_iter_4\.caffemodel"):
        caffe.get_solver("solver.prototxt").restore("small_iter_4.solverstate")


_TRAIN = """
import sys, caffe_compat as caffe
solver = caffe.get_solver("solver.prototxt")
print("ready", flush=True)
solver.step(10**9)
"""


@pytest.mark.slow
def test_killed_at_any_moment_every_snapshot_is_whole(work):
    """kill -9 at 30 random moments: whatever lies there can be read, and the training resumed from it."""
    lay_out(work, DROPPING, SOLVER.replace("display: 1", "") + "snapshot: 1")
    random = np.random.default_rng(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for _ in range(30):
        training = subprocess.Popen([sys.executable, "-c", _TRAIN], stdout=subprocess.PIPE, env=environment, cwd=work)
        training.stdout.readline()
        time.sleep(random.uniform(0.02, 0.5))
        training.send_signal(signal.SIGKILL)
        training.wait()
        states = sorted(work.glob("*.solverstate"), key=lambda path: read_solverstate(path).iteration)
        for path in states:
            state = read_solverstate(path)
            assert len(state.history) == 2 and len(read_weights(state.learned_net).layers) > 1
        if states:
            resumed = caffe.get_solver("solver.prototxt")
            resumed.restore(states[-1])
            resumed.step(1)
        for path in work.glob("small_iter_*"):
            path.unlink()
    assert not list(work.glob("small_iter_*"))
