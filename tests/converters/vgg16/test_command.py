"""`python -m converters vgg16`, and the training that begins with what it writes."""

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from caffe_compat.__main__ import main as caffe_main
from converters.__main__ import main
from converters.vgg16.layout import NAMES
from prototxt import text
from segnet.networks import Training, segnet
from tests.converters.vgg16.files import VGG16, VGG16_BN, caffe_blobs, encoder, features, state_of, write_caffe

SOLVER = """net: "train.prototxt" base_lr: 0.001 lr_policy: "fixed" max_iter: 1 display: 1 random_seed: 1
snapshot_prefix: "after" snapshot_after_train: false solver_mode: CPU"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A SegNet to train on two images of 32×32, named as published, and torchvision's weights."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(f"image{i}.png")
        Image.fromarray(random.integers(0, 11, (32, 32), np.uint8)).save(f"label{i}.png")
    (tmp_path / "list.txt").write_text("image0.png label0.png\nimage1.png label1.png\n")
    net = segnet(32, 32, training=Training(source="list.txt", batch_size=2))
    (tmp_path / "train.prototxt").write_text(text.format(net))
    torch.save(state_of(features(True)), "vgg16_bn.pth")
    return tmp_path


def test_a_training_net_takes_it(folder, capsys):
    assert main(["vgg16", "train.prototxt", "vgg16_bn.pth", "--output", "init.caffemodel"]) == 0
    said = capsys.readouterr().out
    assert "features.0   conv1_1     64×3×3×3     RGB to BGR, mean put" in said
    assert "features.1   conv1_1_bn  1×64×1×1     gamma, beta; the statistics are the batch's" in said
    assert said.endswith("wrote init.caffemodel\n")
    net = caffe.Net("train.prototxt", "init.caffemodel", caffe.TRAIN, fill=False)
    params = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    state = state_of(features(True))
    for index, name in zip(VGG16_BN, NAMES, strict=True):
        pairs = [(params[name][0], f"features.{index}.weight"), (params[name][1], f"features.{index}.bias")]
        pairs = pairs[0 if index else 2 :]  # the first is rewritten for the images
        pairs += [
            (params[f"{name}_bn"][i], f"features.{index + 1}.{word}") for i, word in enumerate(("weight", "bias"))
        ]
        for values, key in pairs:
            assert np.array_equal(values.ravel(), state[key].numpy().ravel()), key


@pytest.mark.slow
def test_a_training_begins_with_it(folder):
    assert main(["vgg16", "train.prototxt", "vgg16_bn.pth", "--output", "init.caffemodel"]) == 0
    (folder / "solver.prototxt").write_text(SOLVER)
    solver = caffe.get_solver("solver.prototxt")
    solver.load("init.caffemodel")
    params = solver.net.params
    assert np.array_equal(params["conv1_2"][0].data, state_of(features(True))["features.3.weight"].numpy())
    assert params["conv5_3_D"][0].data.std() > 0  # by its filler
    before = params["conv1_1"][0].data.copy()
    solver.step(1)
    assert np.isfinite(solver.net.blobs["loss"].data) and not np.array_equal(params["conv1_1"][0].data, before)
    assert caffe_main(["train", "-solver", "solver.prototxt", "-weights", "init.caffemodel"]) == 0


def test_nothing_is_replaced_or_left_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n' + encoder(2))
    write_caffe(tmp_path / "vgg.caffemodel", caffe_blobs())
    assert main(["vgg16", "net.prototxt", "vgg.caffemodel"]) == 0
    assert capsys.readouterr().out.endswith("wrote net_vgg16.caffemodel\n")
    before = (tmp_path / "net_vgg16.caffemodel").read_bytes()
    assert main(["vgg16", "net.prototxt", "vgg.caffemodel", "--fold-mean"]) == 1
    assert "net_vgg16.caffemodel: exists already" in capsys.readouterr().err
    assert (tmp_path / "net_vgg16.caffemodel").read_bytes() == before
    assert main(["vgg16", "net.prototxt", "vgg.caffemodel", "--fold-mean", "--force"]) == 0
    assert (tmp_path / "net_vgg16.caffemodel").read_bytes() != before
    files = sorted(tmp_path.iterdir())
    (tmp_path / "net.prototxt").write_text((tmp_path / "net.prototxt").read_text().replace("64", "32"))
    assert main(["vgg16", "net.prototxt", "vgg.caffemodel", "--output", "other.caffemodel"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: 2 problems:") and "VGG16's conv1_1" in error and "VGG16's conv1_2" in error
    assert sorted(tmp_path.iterdir()) == files


def test_hdf5_and_the_nets_phase(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = encoder(1).replace('name: "conv1_1"', 'name: "conv1_1" include { phase: TEST }')
    (tmp_path / "net.prototxt").write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n' + text)
    torch.save(state_of(features(False)), "vgg16.pth")
    assert main(["vgg16", "net.prototxt", "vgg16.pth", "--output", "init.caffemodel.h5"]) == 1
    assert main(["vgg16", "net.prototxt", "vgg16.pth", "--output", "init.caffemodel.h5", "--phase", "test"]) == 0
    net = caffe.Net("net.prototxt", "init.caffemodel.h5", caffe.TEST)
    weight = state_of(features(False))[f"features.{VGG16[0]}.weight"].numpy()
    assert np.allclose(net.params["conv1_1"][0].data[:, 2], weight[:, 0] / (255 * 0.229), rtol=1e-6)


def test_values_that_are_none_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n' + encoder(2))
    blobs = caffe_blobs()
    blobs["conv1_2"][0][0, 0, 0] = np.nan
    write_caffe(tmp_path / "vgg.caffemodel", blobs)
    assert main(["vgg16", "net.prototxt", "vgg.caffemodel"]) == 0
    assert "conv1_2  conv1_2  64×64×3×3  3 NaN" in capsys.readouterr().out
