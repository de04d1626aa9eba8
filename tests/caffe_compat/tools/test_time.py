"""time: Caffe's protocol and lines."""

import re

import numpy as np
import pytest
from PIL import Image

from caffe_compat.net import Net
from tests.caffe_compat.nets import AUTOENCODER
from tests.caffe_compat.tools.said import fail, run

DATA = """
layer { name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param { source: "/lab/list.txt" batch_size: 2 new_height: 10 new_width: 14 } }
"""
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "best" type: "ArgMax" bottom: "score" top: "best" }
"""
BODY = AUTOENCODER[AUTOENCODER.index("layer") : AUTOENCODER.index('layer { name: "prob"')]
TIME = r"(\d[\d.e+-]*) ms\."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.prototxt").write_text(AUTOENCODER)
    (tmp_path / "train.prototxt").write_text(DATA + BODY + LOSS)
    return tmp_path


def test_the_lines_are_caffes(folder, capsys):
    said = run(capsys, "time", "-model", "deploy.prototxt", "-iterations", 2, "-phase", "TEST")
    start = said.index("Performing Forward")
    layers = ["conv1", "bn1", "relu1", "pool1", "up1", "score", "prob"]
    expected = [
        "Performing Forward", "Initial loss: 0", "Performing Backward", r"\*\*\* Benchmark begins \*\*\*",
        "Testing for 2 iterations\\.",
        *[f"Iteration: {i} forward-backward time: {TIME}" for i in (1, 2)],
        "Average time per layer: ",
        *[f"{layer:>10}\t{way}: {TIME}" for layer in layers for way in ("forward", "backward")],
        f"Average Forward pass: {TIME}", f"Average Backward pass: {TIME}", f"Average Forward-Backward: {TIME}",
        f"Total Time: {TIME}", r"\*\*\* Benchmark ends \*\*\*",
    ]  # fmt: skip
    assert len(said[start:]) == len(expected)
    found = [re.fullmatch(pattern, line) for pattern, line in zip(expected, said[start:], strict=True)]
    assert all(found), said[start:]
    *_, forward, backward, both, total, _ = (float(match[1]) if match.groups() else None for match in found)
    of_layers = [float(match[1]) for match in found[8:-5]]
    assert sum(of_layers[::2]) == pytest.approx(forward, rel=1e-4)
    assert sum(of_layers[1::2]) == pytest.approx(backward, rel=1e-4)
    assert total == pytest.approx(2 * both, rel=1e-4) and total >= 2 * (forward + backward) * 0.999


def test_backward_runs_as_in_caffe_where_nothing_leads_to_a_loss(folder, capsys, monkeypatch):
    runs = []
    backward = Net._run_backward
    monkeypatch.setattr(
        Net, "_run_backward", lambda net, i, node: (runs.append(node.layer.name), backward(net, i, node))
    )
    run(capsys, "time", "--model", "deploy.prototxt", "--iterations", 1)
    # a warm-up and an iteration, of the layers with parameters
    assert runs == ["score", "bn1", "conv1"] * 2


def test_random_numbers_where_there_is_no_data(folder, capsys, monkeypatch):
    blobs = {}
    forward = Net._forward

    def watched(net, start, end):
        loss = forward(net, start, end)
        blobs.update({name: net.blobs[name].data.copy() for name in ("data", "label")})
        return loss

    monkeypatch.setattr(Net, "_forward", watched)
    said = run(capsys, "time", "--model", "train.prototxt", "--iterations", 1)
    assert "Random numbers take the place of data in data, label" in said
    assert blobs["data"].shape == (2, 3, 10, 14) and blobs["data"].std() > 0.1
    assert set(np.unique(blobs["label"])) == {0, 1}  # the classes of `score`
    assert "      best\tbackward: none, ArgMax has no backward pass." in said
    loss = next(float(line.removeprefix("Initial loss: ")) for line in said if line.startswith("Initial loss"))
    assert 0.1 < loss < 10
    run(capsys, "time", "--model", "train.prototxt", "--iterations", 1, "--input_size", "6x8")
    assert blobs["data"].shape == (2, 3, 6, 8) and blobs["label"].shape == (2, 1, 6, 8)


def test_data_that_is_there_is_read(folder, capsys):
    Image.fromarray(np.full((10, 14, 3), 90, np.uint8)).save("im.png")
    Image.fromarray(np.ones((10, 14), np.uint8)).save("label.png")
    (folder / "list.txt").write_text("im.png label.png\n")
    said = run(capsys, "time", "--model", "train.prototxt", "--iterations", 1, "--root", f"/lab={folder}")
    assert not any("Random numbers" in line for line in said)
    Image.fromarray(np.full((10, 14), 7, np.uint8)).save("label.png")  # no such class
    assert "label.png: {7: 140}" in fail(capsys, "time", "--model", "train.prototxt", "--root", f"/lab={folder}")


def test_weights_are_taken(folder, capsys):
    Net("deploy.prototxt", 1).save("deploy.caffemodel")
    said = run(capsys, "time", "--model", "deploy.prototxt", "--weights", "deploy.caffemodel", "--iterations", 1)
    assert "weights: 3 of 3 layers matched by name in deploy.caffemodel" in said


def test_a_memory_data_layer_is_fed(folder, capsys):
    memory = """layer { name: "data" type: "MemoryData" top: "data" top: "label"
      memory_data_param { batch_size: 2 channels: 3 height: 10 width: 14 } }
    layer { name: "quiet" type: "Silence" bottom: "label" }"""
    (folder / "memory.prototxt").write_text(memory + BODY)
    said = run(capsys, "time", "--model", "memory.prototxt", "--iterations", 1)
    assert "Random numbers take the place of data in data, label" in said
