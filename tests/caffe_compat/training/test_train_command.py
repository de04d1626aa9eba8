"""The command that trains: what it says, how it is interrupted, and how it goes on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat import device
from caffe_compat.__main__ import main
from caffe_compat.tools.log_tables import parse_log
from prototxt.weights_h5 import read_weights
from tests.caffe_compat.training.nets import SOLVER, lay_out


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(device, "_mode", None)
    lay_out(tmp_path)
    return tmp_path


def weights(file):
    return [blob.data.tolist() for layer in read_weights(file).layers for blob in layer.blobs]


def test_training_as_caffe_spells_it(work, capsys):
    assert main(["train", "-solver", "solver.prototxt"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"[IW]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ solver\.cpp:\d+\] ", line) for line in lines)
    assert "training on the CPU" in lines[0] and lines[-1].endswith("] Optimization Done.")
    tables = parse_log(lines)
    assert [row["NumIters"] for row in tables.train.rows] == list(range(10))
    assert tables.train.rows[0]["LearningRate"] == 0.1 and "loss" in tables.train.columns
    assert (work / "small_iter_10.solverstate").exists()


def test_going_on_and_finetuning(work, capsys):
    lay_out(work, solver=SOLVER + "snapshot: 5")
    assert main(["train", "--solver=solver.prototxt"]) == 0
    whole = weights("small_iter_10.caffemodel")
    (work / "small_iter_10.caffemodel").unlink()
    assert main(["train", "--solver=solver.prototxt", "--snapshot=small_iter_5.solverstate"]) == 0
    assert weights("small_iter_10.caffemodel") == whole
    capsys.readouterr()
    assert (
        main(["train", "--solver=solver.prototxt", "--weights=small_iter_5.caffemodel,small_iter_10.caffemodel"]) == 0
    )
    assert capsys.readouterr().err.count("Finetuning from") == 2
    assert main(["train", "--solver=solver.prototxt", "--weights=a", "--snapshot=b"]) == 1
    assert "expected one" in capsys.readouterr().err


def test_labels_are_looked_at_first(work, capsys):
    lay_out(work)
    import h5py

    with h5py.File("data.h5", "a") as file:
        file["label"][7] = 5
    assert main(["train", "--solver=solver.prototxt"]) == 1
    error = capsys.readouterr().err
    assert "1 of 10 labels hold values outside the classes" in error and "5 (1 times)" in error
    assert "Iteration 0" not in error
    assert main(["train", "--solver=solver.prototxt", "--trust_labels"]) == 1
    assert "Iteration 0" in capsys.readouterr().err


def test_curves(work):
    pytest.importorskip("matplotlib", reason="needs matplotlib (the extra `plot`)")
    assert main(["train", "--solver=solver.prototxt", "--plot=curves.png"]) == 0
    assert (work / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("number", "options", "ends"),
    [
        (signal.SIGINT, [], True),
        (signal.SIGHUP, [], False),
        (signal.SIGHUP, ["--sighup_effect=stop"], True),
    ],
)
def test_signals(work, number, options, ends):
    lay_out(work, solver=SOLVER.replace("max_iter: 10", "max_iter: 1000000000"))
    environment = {**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "caffe_compat", "train", "--solver=solver.prototxt", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as training:
        said = []
        for line in training.stderr:
            said.append(line)
            if "Iteration 3, lr" in line:
                training.send_signal(number)
            if "Iteration 40," in line and not ends:
                training.kill()
    assert any("after this iteration" in line for line in said)
    assert any("Optimization stopped early." in line for line in said) == ends
    assert training.returncode == (0 if ends else -signal.SIGKILL)
    (state,) = work.glob("*.solverstate")
    resumed = caffe.get_solver("solver.prototxt")
    resumed.restore(state)
    resumed.step(1)
    assert np.isfinite(resumed.loss)
