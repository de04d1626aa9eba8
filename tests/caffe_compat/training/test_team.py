"""Two processes train as one does on batches twice as large."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import caffe_compat as caffe
from prototxt.weights_h5 import read_weights
from tests.caffe_compat.training.nets import NET, SOLVER, lay_out

#: A loss that is divided by the batch, and no statistics of it.
SUMMED = NET.replace('top: "loss" }', 'top: "loss" loss_param { normalize: false } }')
SHUFFLED = SUMMED.replace("batch_size: 4", "batch_size: 4 shuffle: true")


def weights(path):
    return np.concatenate([blob.data.ravel() for layer in read_weights(path).layers for blob in layer.blobs])


def train_as_two(folder, *options):
    environment = {**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words += ["-m", "caffe_compat", "train", "--solver=solver.prototxt", *options]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_two_processes_take_the_path_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = SOLVER + "snapshot: 5 test_iter: 1 test_interval: 5"
    lay_out(tmp_path, SHUFFLED, solver, items=37)
    said = train_as_two(tmp_path)
    assert said.count("Iteration 3, loss") == 1 and said.count("Iteration 5, Testing net") == 1
    two = weights("small_iter_10.caffemodel")
    lay_out(tmp_path, SHUFFLED.replace("batch_size: 4", "batch_size: 8"), items=37)
    alone = caffe.get_solver("solver.prototxt")
    alone.step(10)
    one = np.concatenate([blob.data.ravel() for blob in alone.net.params["ip"]])
    assert np.abs(one - two).max() < 1e-6 * np.abs(one).max() * 10
    (tmp_path / "small_iter_10.caffemodel").unlink()
    lay_out(tmp_path, SHUFFLED, solver, items=37)
    train_as_two(tmp_path, "--snapshot=small_iter_5.solverstate")
    assert np.array_equal(weights("small_iter_10.caffemodel"), two)
