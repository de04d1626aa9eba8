"""Weights of a part of a net, as VGG16's are of SegNet's encoder: what is written says nothing of the other layers."""

import numpy as np
import pytest

import caffe_compat as caffe
from converters.__main__ import main
from converters.translate import translate_files
from prototxt.caffe_pb2 import NetParameter

NET = """
name: "n"
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn2" type: "BN" bottom: "conv2" top: "bn2" bn_param { bn_mode: INFERENCE } }
layer { name: "score" type: "Convolution" bottom: "bn2" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
"""


@pytest.fixture
def part(tmp_path, monkeypatch):
    """conv1's weights, which are those in net.caffemodel."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.save("net.caffemodel")
    file = tmp_path / "net.caffemodel"
    stored = NetParameter.FromString(file.read_bytes())
    del stored.layer[2:]
    file.write_bytes(stored.SerializeToString())
    return net.params["conv1"][0].data.copy()


def check(stem, weight):
    net = caffe.Net(f"{stem}.prototxt", f"{stem}.caffemodel", caffe.TEST)
    assert np.array_equal(net.params["conv1"][0].data, weight)


def test_set_channels(part):
    assert main(["set-channels", "net.prototxt", "--channels", "4", "--weights", "net.caffemodel"]) == 0
    check("net_4channels", np.pad(part, ((0, 0), (0, 1), (0, 0), (0, 0))))


def test_set_classes(part):
    assert main(["set-classes", "net.prototxt", "--classes", "6", "--weights", "net.caffemodel"]) == 0
    check("net_6classes", part)


def test_translate(part):
    translate_files("net.prototxt", "bvlc", "other", "net.caffemodel")
    check("other", part)
