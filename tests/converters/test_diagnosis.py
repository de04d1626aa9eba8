"""What does not go together in a net and its weights, each said once, with the layer."""

import numpy as np
import pytest

import caffe_compat as caffe
from converters.__main__ import main
from converters.diagnosis import diagnose
from prototxt.net_file import parse_net, read_net
from tests.caffe_compat.nets import AUTOENCODER, inputs
from tests.converters.test_class_count import layer, linear
from tests.shared import SHARED, needs_shared


@pytest.fixture
def weights(tmp_path):
    net = caffe.Net(parse_net(AUTOENCODER, "net.prototxt"), caffe.TEST)
    path = str(tmp_path / "a.caffemodel")
    net.save(path)
    return path


def found(text, weights):
    return diagnose(parse_net(text, "net.prototxt"), weights)


def test_what_belongs_together(weights):
    assert found(AUTOENCODER, weights) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name: "score"', 'name: "scores"', ["not in the weights, left as its fillers make it. did you mean 'score'?",
                                             "weights of 'score': the net has no such layer"]),
        ("num_output: 2", "num_output: 5", ["the weights are of 2 classes, the net has 5; `python -m converters set"]),
        ("kernel_size: 1", "kernel_size: 1 bias_term: false", ["2 blobs in the weights; expected 1"]),
        ("kernel_size: 3 pad: 1", "kernel_size: 5 pad: 2", ["blob 0 has the shape (4, 3, 3, 3) in the weights;"]),
    ],
)  # fmt: skip
def test_net_and_weights_of_different_kinds(old, new, said, weights):
    assert AUTOENCODER.count(old) == 1
    lines = found(AUTOENCODER.replace(old, new), weights)
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line and line.startswith(("net.prototxt:", "weights of"))


def test_statistics_that_are_merged_already(tmp_path):
    merged = caffe.Net(parse_net(AUTOENCODER.replace("bn_param {", "bn_param { bn_mode: INFERENCE"), "n"), caffe.TEST)
    merged.save(str(tmp_path / "m.caffemodel"))
    (line,) = found(AUTOENCODER, str(tmp_path / "m.caffemodel"))
    assert "layer 'bn1' (BN) and the other BN layers: bn_mode LEARN, but the weights have statistics merged in" in line


def normalised(mode):
    norms = [layer(f"n{i}", "BN", ["x"], "x", f"bn_param {{ bn_mode: {mode} }}") for i in range(3)]
    return inputs(x=(1, 3, 4, 4)) + "".join(norms)


@pytest.mark.parametrize(
    ("mode", "scales", "said"),
    [
        ("INFERENCE", (0.8, 0.9, 0.7), "bn_mode INFERENCE, but the weights look like a training's"),
        ("LEARN", (0.8, 0.9, 0.7), None),
        ("INFERENCE", (0.8, 0.1, 0.7), None),
        ("LEARN", (0.8, 0.1, 0.7), "bn_mode LEARN, but the weights have statistics merged in"),
        ("INFERENCE", (0.8, 0.3, 0.7), None),  # may be either
    ],
)
def test_scales_tell_of_statistics(mode, scales, said, tmp_path):
    net = caffe.Net(parse_net(normalised("LEARN"), "net.prototxt"), caffe.TRAIN)
    for i, scale in enumerate(scales):
        net.params[f"n{i}"][0].data[...] = scale
    path = str(tmp_path / "n.caffemodel")
    net.save(path)
    lines = found(normalised(mode), path)
    assert len(lines) == bool(said)
    assert not said or said in lines[0]


@needs_shared
@pytest.mark.parametrize(
    ("net", "weights", "said"),
    [
        ("inference", "test_weights", None),
        ("train", "segnet_basic_96x128_iter_500", None),
        ("inference", "segnet_basic_96x128_iter_500", "look like a training's"),
        ("train", "test_weights", "have statistics merged in"),
    ],
)
def test_what_caffe_trained(net, weights, said):
    folder = SHARED / "models" / "segnet_basic_96x128"
    lines = diagnose(read_net(folder / f"{net}.prototxt"), folder / f"{weights}.caffemodel")
    assert len(lines) == bool(said)
    assert not said or said in lines[0]


def test_batch_norm_without_statistics(tmp_path):
    text = inputs(x=(1, 3, 4, 4)) + layer("norm", "BatchNorm", ["x"], "x")
    net = caffe.Net(parse_net(text, "net.prototxt"), caffe.TEST)
    path = str(tmp_path / "n.caffemodel")
    net.save(path)
    (line,) = found(text, path)
    assert "layer 'norm' (BatchNorm): its weights hold no statistics" in line
    net.params["norm"][2].data[...] = 1
    net.params["norm"][1].data[...] = 1e7  # a sum of variances may be large
    net.save(path)
    assert found(text, path) == []


def test_strange_values(tmp_path):
    text = inputs(x=(1, 3, 4, 4)) + linear("c", "x", 2)
    net = caffe.Net(parse_net(text, "net.prototxt"), caffe.TEST)
    path = str(tmp_path / "c.caffemodel.h5")
    net.save(path)
    assert [line.split(": ", 1)[1] for line in found(text, path)] == ["layer 'c' (Convolution): blob 0: all zero"]
    net.params["c"][0].data[...] = np.arange(6).reshape(2, 3, 1, 1)
    net.params["c"][1].data[1] = np.nan
    net.save(path)
    assert [line.split(": ", 1)[1] for line in found(text, path)] == ["layer 'c' (Convolution): blob 1: 1 NaN"]


def test_command(weights, tmp_path, capsys):
    path = tmp_path / "net.prototxt"
    path.write_text(AUTOENCODER)
    assert main(["doctor", str(path), weights]) == 0 and capsys.readouterr().out == "nothing wrong found\n"
    path.write_text(AUTOENCODER.replace("num_output: 2", "num_output: 3"))
    assert main(["doctor", str(path), weights]) == 1 and "2 classes" in capsys.readouterr().out
