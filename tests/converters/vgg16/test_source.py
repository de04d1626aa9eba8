"""What is read as VGG16, and what is told of files that are none."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from converters.vgg16.layout import NAMES, SHAPES, torchvision_indices
from converters.vgg16.source import read_vgg16
from prototxt.blobs import BlobArray
from prototxt.caffe_pb2 import LayerParameter
from prototxt.errors import CaffeError, FormatError, MissingFileError
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import write_weights_h5
from tests.converters.vgg16.files import VGG16, VGG16_BN, VGG19, caffe_blobs, features, thin_state, write_caffe


@pytest.fixture(scope="module")
def plain():
    return thin_state()


@pytest.fixture(scope="module")
def normalised():
    return thin_state(batch_norm=True)


def test_layout():
    assert torchvision_indices(False) == VGG16 and torchvision_indices(True) == VGG16_BN
    assert NAMES[0] == "conv1_1" and NAMES[-1] == "conv5_3" and len(NAMES) == len(SHAPES) == 13
    modules = {key: tuple(value.shape) for key, value in features(False).state_dict().items()}
    assert [modules[f"{index}.weight"] for index in VGG16] == list(SHAPES)


def test_caffes_file_in_both_formats(tmp_path):
    blobs = caffe_blobs()
    write_caffe(tmp_path / "vgg.caffemodel", blobs)
    layers = [LayerWeights(LayerParameter(name=name), list(map(BlobArray, own))) for name, own in blobs.items()]
    write_weights_h5(tmp_path / "vgg.caffemodel.h5", layers)
    for name, unused in (("vgg.caffemodel", ["fc6", "fc7", "fc8"]), ("vgg.caffemodel.h5", [])):
        vgg = read_vgg16(tmp_path / name)
        assert vgg.is_caffe and vgg.unused == unused and [one.name for one in vgg.filters] == list(NAMES)
        for one in vgg.filters:
            assert np.array_equal(one.weight, blobs[one.name][0]) and np.array_equal(one.bias, blobs[one.name][1])


def test_torchvisions_file_in_each_format(tmp_path, plain):
    save_file = pytest.importorskip("safetensors.torch", reason="needs safetensors, the optional extra").save_file
    torch.save(plain, tmp_path / "a.pth")
    torch.save(plain, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": plain}, tmp_path / "checkpoint.pt")
    torch.save({f"module.{key}": value for key, value in plain.items()}, tmp_path / "parallel.pth")
    torch.save({key: nn.Parameter(value) for key, value in plain.items()}, tmp_path / "parameters.pth")
    save_file({key: value.contiguous() for key, value in plain.items()}, tmp_path / "a.safetensors")
    for name in ("a.pth", "old.pth", "checkpoint.pt", "parallel.pth", "parameters.pth", "a.safetensors"):
        vgg = read_vgg16(tmp_path / name)
        assert not vgg.is_caffe and list(vgg.unused) == ["classifier.0", "classifier.3", "classifier.6"]
        for one, index in zip(vgg.filters, VGG16, strict=True):
            assert one.name == f"features.{index}" and one.norm is None
            assert np.array_equal(one.weight, plain[f"features.{index}.weight"].numpy())
            assert np.array_equal(one.bias, plain[f"features.{index}.bias"].numpy())


def test_half_precision(tmp_path, normalised):
    torch.save({key: value.half() for key, value in normalised.items()}, tmp_path / "half.pth")
    vgg = read_vgg16(tmp_path / "half.pth")
    assert vgg.filters[0].weight.dtype == np.float32 and vgg.filters[0].norm.gamma.dtype == np.float64


def test_normalisation(tmp_path, normalised):
    torch.save(normalised, tmp_path / "bn.pth")
    for one, index in zip(read_vgg16(tmp_path / "bn.pth").filters, VGG16_BN, strict=True):
        words = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (normalised[f"features.{index + 1}.{word}"].double().numpy() for word in words)
        assert one.norm.name == f"features.{index + 1}"
        assert np.array_equal(one.norm.gamma, gamma) and np.array_equal(one.norm.beta, beta)
        assert np.array_equal(one.norm.mean, mean) and np.array_equal(one.norm.variance, variance + 1e-5)


def vgg19():
    state, zero = {}, torch.zeros(1)
    outputs = (64,) * 2 + (128,) * 2 + (256,) * 4 + (512,) * 8
    for index, out, inputs in zip(VGG19, outputs, (3, *outputs), strict=False):
        shape = (out, inputs, 3, 3)
        state |= {f"features.{index}.weight": zero.expand(shape), f"features.{index}.bias": zero.expand(out)}
    return state


RESNET = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64), "layer1.0.x": torch.zeros(1)}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (vgg19(), "no VGG16: it has 16 convolutions, as many as VGG19: features.0, features.2, "),
        (RESNET, "no VGG16: it has conv1.weight, bn1.weight, layer1.0.x; expected VGG_ILSVRC_16_layers.caffemodel, or"),
        ({"epoch": 3}, "no state dict; expected VGG_ILSVRC_16_layers.caffemodel, or the state dict of torchvision's"),
    ],
)
def test_other_state_dicts(tmp_path, state, said):
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(FormatError) as error:
        read_vgg16(tmp_path / "x.pth")
    assert said in str(error.value) and str(tmp_path / "x.pth") in str(error.value)


def test_every_wrong_shape_is_told(tmp_path, plain, normalised):
    wrong = plain | {"features.5.weight": torch.zeros(128, 64, 5, 5), "features.7.bias": torch.zeros(3)}
    torch.save(wrong, tmp_path / "x.pth")
    with pytest.raises(
        FormatError, match=r"'features.5.weight' is \(128, 64, 5, 5\); expected \(128, 64, 3, 3\)"
    ) as error:
        read_vgg16(tmp_path / "x.pth")
    assert len(error.value.problems) == 2
    del normalised["features.1.running_mean"]
    torch.save(normalised, tmp_path / "x.pth")
    with pytest.raises(FormatError, match=r"'features.1.running_mean' is not there; expected \(64,\)"):
        read_vgg16(tmp_path / "x.pth")


def test_other_caffemodels(tmp_path):
    small = {name: [np.ones(1, np.float32)] * 2 for name in NAMES}
    for blobs, types, said in (
        (small | {"conv3_4": [np.ones(1)], "conv4_4": [np.ones(1)]}, {}, "no VGG16: it has conv3_4, conv4_4, as VGG19"),
        ({"conv1": [np.ones(1)], "bn_conv1": [np.ones(1)]}, {}, "no VGG16: it lacks conv1_1, conv1_2, "),
        (small | {"conv1_1_bn": [np.ones(1)]}, {"conv1_1_bn": "BN"}, "batch normalisation (conv1_1_bn), without which"),
    ):
        write_caffe(tmp_path / "x.caffemodel", blobs, types)
        with pytest.raises(FormatError) as error:
            read_vgg16(tmp_path / "x.caffemodel")
        assert said in str(error.value) and len(error.value.problems) == 1
    write_caffe(tmp_path / "x.caffemodel", small)
    with pytest.raises(
        FormatError, match=r"layer 'conv1_1' has blobs of the shapes \[\(1, 1, 1, 1\), \(1, 1, 1, 1\)\]"
    ) as error:
        read_vgg16(tmp_path / "x.caffemodel")
    assert len(error.value.problems) == 13


def test_files_that_are_nothing(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "x.caffemodel").write_text("<html>")
    for name, said in (("x.pth", "a damaged archive"), ("x.caffemodel", "a web page")):
        with pytest.raises(FormatError, match=said):
            read_vgg16(tmp_path / name)
    for name in ("none.pth", "none.caffemodel"):
        with pytest.raises(MissingFileError, match=name):
            read_vgg16(tmp_path / name)


def test_safetensors_that_are_nothing(tmp_path):
    pytest.importorskip("safetensors", reason="needs safetensors, the optional extra")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(FormatError, match="safetensors cannot read it"):
        read_vgg16(tmp_path / "x.safetensors")
    with pytest.raises(MissingFileError, match="none"):
        read_vgg16(tmp_path / "none.safetensors")


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(CaffeError, match=r"reading it takes the package safetensors.*or take a \.pth"):
        read_vgg16(tmp_path / "x.safetensors")


def test_a_pickle_that_would_run_code(tmp_path):
    for zipped in (True, False):
        torch.save(nn.Conv2d(3, 64, 3), tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(FormatError, match="nothing was run"):
            read_vgg16(tmp_path / "whole.pth")


def test_images_are_torchvisions_to_choose(tmp_path):
    write_caffe(tmp_path / "x.caffemodel", caffe_blobs())
    with pytest.raises(CaffeError, match="--trained-as IMAGENET1K_V1 is for torchvision's"):
        read_vgg16(tmp_path / "x.caffemodel", "IMAGENET1K_V1")
