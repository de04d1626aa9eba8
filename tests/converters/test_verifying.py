"""caffe2torch --verify: what was written, run again beside Caffe's side."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from converters.caffe2torch import convert, main
from converters.verifying import read_back, verify
from prototxt.errors import CaffeError
from tests.caffe_compat.nets import AUTOENCODER, inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    Path("a.prototxt").write_text(AUTOENCODER)
    caffe.Net("a.prototxt", caffe.TEST).save("a.caffemodel")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save("street.png")
    return tmp_path


@pytest.mark.parametrize("kind", ["pt", "npz", "h5", "safetensors"])
def test_every_format(folder, kind, capsys):
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors, the optional extra")
    assert main(["a.prototxt", "--weights", "a.caffemodel", "--format", kind, "--verify", "street.png"]) == 0
    out = capsys.readouterr().out
    assert out.count("EQUAL") == 2 and "on random numbers:" in out and "on street.png:" in out
    assert out.count("100.0000% of the labels") == 2 and "positions 'mask1'" in out


def test_other_weights_in_the_file(folder, monkeypatch, capsys):
    """One weight of what was written is another one: the layer is named, for random numbers and for the image."""
    net, target, _ = convert("a.prototxt", weights="a.caffemodel")
    content = torch.load(target, weights_only=True)
    content["state_dict"]["layer.score.weight"][1, 2] += 0.01
    torch.save(content, target)
    told, equal = verify(net, target, "street.png")
    assert not equal and told.count("deviates by itself: score (Convolution), blob 'score': the weights differ") == 2
    monkeypatch.setattr("converters.caffe2torch.verify", lambda *given: verify(net, target))
    assert main(["a.prototxt", "--weights", "a.caffemodel", "--output", "b.pt", "--verify"]) == 1


def test_another_net_in_the_file(folder):
    net, target, _ = convert("a.prototxt", weights="a.caffemodel")
    content = torch.load(target, weights_only=True)
    content["prototxt"] = content["prototxt"].replace("pad: 1", "pad: 2 dilation: 2")
    torch.save(content, target)
    told, equal = verify(net, target)
    assert not equal and "deviates by itself: conv1 (Convolution)" in told and "`dilation: 2`" in told


def test_a_parameter_that_the_file_lacks(folder):
    net, target, _ = convert("a.prototxt", "a.npz", weights="a.caffemodel")
    with np.load(target) as arrays:
        kept = {name: arrays[name] for name in arrays if name != "layer.score.bias"}
    np.savez(target, **kept)
    with pytest.raises(CaffeError, match=r"a\.npz: does not hold this net's weights"):
        read_back(net, target)


def test_a_net_that_learns_and_draws(folder):
    """TRAIN: batch statistics that move, Dropout that draws, labels, a loss; afterwards the net is as before."""
    text = inputs(data=(2, 3, 8, 8), label=(2, 1, 8, 8)) + (
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        'convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }'
        'layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }'
        'layer { name: "d" type: "Dropout" bottom: "c" top: "c" }'
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "l" }'
    )
    Path("t.prototxt").write_text(text)
    net, target, _ = convert("t.prototxt", phase=caffe.TRAIN)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    told, equal = verify(net, target, "street.png")
    assert equal, told
    assert told.count("draws at random") == 2 and "SoftmaxWithLoss" in told
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items()) and net.keeps_graph


def test_missing_image(folder, capsys):
    assert main(["a.prototxt", "--verify", "no.png"]) == 1
    assert "no.png" in capsys.readouterr().err
