"""Nets whose data is not there: their size, and what is said of it. And data whose labels do not fit."""

import numpy as np
import pytest
from PIL import Image

import caffe_compat as caffe
from caffe_compat.errors import NetError
from prototxt.errors import MissingFileError
from tests.caffe_compat.nets import net

DATA = """
layer { name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param { source: "/nowhere/train.txt" batch_size: 2 OWN } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "mask"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Upsample" bottom: "pool" bottom: "mask" top: "up" upsample_param { SIZE } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "label" top: "loss" }
"""


def built(own="", size="scale: 2", **options):
    return net(DATA.replace("OWN", own).replace("SIZE", size), caffe.TRAIN, **options)


@pytest.mark.parametrize(
    ("own", "size", "options", "shape"),
    [
        ("", "scale: 2", {"input_shapes": {"data": (4, 3, 6, 8), "label": (4, 1, 6, 8)}}, (4, 3, 6, 8)),
        ("", "scale: 2", {"image_size": (10, 20)}, (2, 3, 10, 20)),
        ("new_height: 30 new_width: 40", "scale: 2", {"image_size": (10, 20)}, (2, 3, 10, 20)),
        ("new_height: 30 new_width: 40", "scale: 2", {}, (2, 3, 30, 40)),
        ("new_height: 30 new_width: 40 crop_height: 20 crop_width: 10", "scale: 2", {}, (2, 3, 20, 10)),
        ("", "upsample_h: 45 upsample_w: 60", {}, (2, 3, 45, 60)),
        ("", "scale: 2", {}, (2, 3, 360, 480)),
        ("is_color: false", "scale: 2", {}, (2, 1, 360, 480)),
    ],
)
def test_size_of_a_net_without_its_data(own, size, options, shape):
    assert built(own, size, **options).blobs["data"].shape == shape


def test_size_that_several_upsamplings_allow():
    text = """
layer { name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param { source: "none.txt" batch_size: 1 } }
layer { name: "p1" type: "Pooling" bottom: "data" top: "p1" top: "m1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "p2" type: "Pooling" bottom: "p1" top: "p2" top: "m2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "u2" type: "Upsample" bottom: "p2" bottom: "m2" top: "u2"
  upsample_param { upsample_h: 23 upsample_w: 30 } }
layer { name: "u1" type: "Upsample" bottom: "u2" bottom: "m1" top: "u1"
  upsample_param { upsample_h: 45 upsample_w: 60 } }
layer { name: "quiet" type: "Silence" bottom: "label" }"""
    assert net(text).blobs["data"].shape == (1, 3, 45, 60)


def test_warning_names_the_file_and_running_it_lists_the_places(caplog):
    made = built()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "layer 'data'" in warning and "'/nowhere/train.txt' does not exist" in warning and "360x480" in warning
    assert "\n" not in warning
    with pytest.raises(MissingFileError, match=r"layer 'data'.*'/nowhere/train\.txt' does not exist; looked for it as"):
        made.forward()


def test_a_net_without_its_data_is_fed_by_hand():
    made = built(image_size=(4, 6))
    made.blobs["data"].data[...] = 1
    made.blobs["label"].data[...] = 2
    made.forward(start=made._layer_names[1])
    assert np.isclose(made.blobs["loss"].data, np.log(3), atol=1)


def test_labels_outside_the_classes_name_their_file(tmp_path):
    for i, label in enumerate((0, 9)):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"image{i}.png")
        Image.fromarray(np.full((4, 6), label, np.uint8)).save(tmp_path / f"label{i}.png")
    (tmp_path / "train.txt").write_text("image0.png label0.png\nimage1.png label1.png\n")
    made = built(roots=[("/nowhere", str(tmp_path))])
    with pytest.raises(NetError, match=r"layer 'loss'.*9 \(24 times\); expected 0 to 2.*label1\.png: \{9: 24\}"):
        made.forward()


def test_missing_image_names_its_list(tmp_path):
    (tmp_path / "train.txt").write_text("image0.png label0.png\n")
    made = built(roots=[("/nowhere", str(tmp_path))])
    with pytest.raises(MissingFileError, match=r"(?s)layer 'data'.*'image0\.png'.*train\.txt: 2 of the 2 files"):
        made.forward()


@pytest.mark.parametrize(
    ("own", "lines", "told"),
    [
        ("new_height: 3", "a.png b.png", r"layer 'data' \(DenseImageData\): .*new_height without new_width"),
        ("", "a.png", r"layer 'data' \(DenseImageData\): .*train\.txt: the list is empty"),
    ],
)
def test_what_is_wrong_with_the_data_names_the_layer(tmp_path, own, lines, told):
    (tmp_path / "train.txt").write_text(lines)
    with pytest.raises(NetError, match=told):
        built(own, roots=[("/nowhere", str(tmp_path))])
