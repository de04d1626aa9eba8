"""test: means of a net's outputs over batches."""

import numpy as np
import pytest
from PIL import Image

import caffe_compat as caffe
from caffe_compat.__main__ import main
from tests.caffe_compat.nets import AUTOENCODER
from tests.caffe_compat.tools.said import fail, run

#: Grey images of one pixel: cost = 3 · (pixel, -pixel / 2). One output is no loss.
NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "/lab/list.txt" batch_size: 1 is_color: false new_height: 1 new_width: 1 } }
layer { name: "cost" type: "InnerProduct" bottom: "data" top: "cost" loss_weight: 3
  inner_product_param { num_output: 2 bias_term: false } }
layer { name: "quiet" type: "Silence" bottom: "label" include { stage: "quiet" } }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, value in enumerate((10, 20)):
        Image.fromarray(np.full((1, 1), value, np.uint8)).save(f"im{number}.png")
    (tmp_path / "list.txt").write_text("im0.png 4\nim1.png 7\n")
    (tmp_path / "net.prototxt").write_text(NET)
    net = caffe.Net("net.prototxt", caffe.TEST, roots=[("/lab", str(tmp_path))])
    net.params["cost"][0].data[...] = [[1], [-0.5]]
    net.save("net.caffemodel")
    return tmp_path


def test_every_value_of_every_batch_and_the_means(folder, capsys):
    flags = ["-model", "net.prototxt", "-weights", "/lab/net.caffemodel", "-iterations=3", "--root", f"/lab={folder}"]
    said = run(capsys, "test", *flags)
    assert said[0] == "Use CPU."
    assert said[said.index("Running for 3 iterations.") + 1 :] == [
        "Batch 0, cost = 10", "Batch 0, cost = -5", "Batch 0, label = 4",
        "Batch 1, cost = 20", "Batch 1, cost = -10", "Batch 1, label = 7",
        "Batch 2, cost = 10", "Batch 2, cost = -5", "Batch 2, label = 4",
        "Loss: 20",
        "cost = 13.3333 (* 3 = 40 loss)", "cost = -6.66667 (* 3 = -20 loss)", "label = 5",
    ]  # fmt: skip
    quiet = run(capsys, "test", *flags, "-stage", "loud,quiet")
    assert "label = 5" not in quiet and "Loss: 20" in quiet


def test_data_that_is_not_there_is_an_error(folder, capsys):
    (folder / "list.txt").unlink()
    error = fail(capsys, "test", "--model", "net.prototxt", "--weights", "net.caffemodel")
    assert "'/lab/list.txt' does not exist" in error and "--root /lab=FOLDER" in error


def test_inputs_that_nobody_feeds_are_told(folder, capsys):
    (folder / "deploy.prototxt").write_text(AUTOENCODER)
    caffe.Net("deploy.prototxt", caffe.TEST).save("deploy.caffemodel")
    said = run(capsys, "test", "--model", "deploy.prototxt", "--weights", "deploy.caffemodel", "--iterations", 1)
    assert any("input data stays zero" in line for line in said)
    assert said.count("Batch 0, prob = 0.5") == 2 * 10 * 14


def test_weights_must_be_given(folder, capsys):
    with pytest.raises(SystemExit):
        main(["test", "--model", "net.prototxt"])
    assert "--weights" in capsys.readouterr().err
