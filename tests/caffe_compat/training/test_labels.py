"""Labels are looked at before the first step, by the rule of the losses."""

import numpy as np
import pytest
from PIL import Image

import caffe_compat as caffe
from caffe_compat.errors import SolverError
from caffe_compat.training.labels import check_labels
from tests.caffe_compat.nets import net
from tests.caffe_compat.training.nets import lay_out

NET = """
layer {{ name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param {{ source: "list.txt" batch_size: 1 }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" {} }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" }}
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, labels in enumerate(([[0, 1]], [[2, 3]], [[3, 9]])):
        Image.fromarray(np.zeros((1, 2, 3), np.uint8)).save(f"image{i}.png")
        Image.fromarray(np.array(labels, np.uint8)).save(f"label{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"image{i}.png label{i}.png\n" for i in range(3)))
    return tmp_path


def test_files_values_and_counts_are_told(work):
    with pytest.raises(SolverError) as caught:
        check_labels(net(NET.format("")))
    first, *files = caught.value.problems
    assert "'loss' (SoftmaxWithLoss): 2 of 3 labels hold values outside the classes; expected 0 to 2" in first
    assert files == [f"{work}/label1.png: 3 (1 times)", f"{work}/label2.png: 3 (1 times), 9 (1 times)"] or files == [
        "label1.png: 3 (1 times)",
        "label2.png: 3 (1 times), 9 (1 times)",
    ]


def test_ignored_labels_are_no_error(work):
    (work / "list.txt").write_text("image0.png label0.png image1.png label1.png")
    assert check_labels(net(NET.format("loss_param { ignore_label: 3 }"))) == 2
    with pytest.raises(SolverError, match="or 4, which is ignored"):
        check_labels(net(NET.format("loss_param { ignore_label: 4 }")))


def test_accuracy_alone_has_no_rule(work):
    text = NET.format("")
    text = text.replace(text[text.index('layer { name: "loss"') : text.index('layer { name: "accuracy"')], "")
    assert check_labels(net(text)) == 0


def test_rows_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    assert check_labels(caffe.Net("net.prototxt", caffe.TRAIN)) == 10
