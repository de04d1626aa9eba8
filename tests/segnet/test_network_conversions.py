"""The networks through the converters (source, ONNX, absorbing, other classes), and from training to inference."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.absorbing import absorb
from converters.caffe2onnx import main as to_onnx
from converters.class_count import set_classes
from prototxt import text
from prototxt.caffe_pb2 import NetParameter
from prototxt.net_file import NetFile
from segnet.bn_statistics import bn_statistics, write_merged
from segnet.networks import NETWORKS, Training
from tests.converters.emitted import differences, fill

SIZE = {"deconvnet": (193, 197)}
REPRESENTATIVE = ("segnet_basic_single_channel_decoder", "fcn_basic", "deeplab_largefov")
EACH = [
    pytest.param(name, marks=[] if name in REPRESENTATIVE else [pytest.mark.slow])
    for name in NETWORKS
    if name not in ("segnet", "segnet_basic")
]


@pytest.fixture
def built(narrow):
    """Makes a network with values in its parameters."""

    def make(name):
        message = NETWORKS[name](*SIZE.get(name, (37, 51)), 5)
        return message, fill(caffe.Net(message, caffe.TEST))

    return make


@pytest.mark.parametrize("name", EACH)
def test_source(built, name, tmp_path):
    assert differences(built(name)[1], tmp_path) == []


@pytest.mark.parametrize("name", EACH)
def test_onnx(built, name, tmp_path, capsys):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}, the optional extra")
    message, net = built(name)
    (tmp_path / "net.prototxt").write_text(text.format(message))
    net.save(tmp_path / "net.caffemodel")
    files = [str(tmp_path / f"net.{kind}") for kind in ("prototxt", "caffemodel", "onnx")]
    assert to_onnx([files[0], "--weights", files[1], "--output", files[2], "--verify"]) == 0
    assert "labels the same: 100.0000%" in capsys.readouterr().out


@pytest.mark.parametrize("name", EACH)
def test_absorbed(built, name):
    message, net = built(name)
    blobs = [[blob.data for blob in net.params.get(layer.name, [])] for layer in message.layer]
    folded, values, _ = absorb(message, blobs)
    assert not any(layer.type == "BN" for layer in folded.layer)
    again = caffe.Net(folded, caffe.TEST)
    for layer, own in zip(folded.layer, values, strict=True):
        for blob, value in zip(again.params.get(layer.name, []), own, strict=True):
            blob.data[...] = value
    x = torch.rand(1, *net.blobs["data"].shape[1:], generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        want, found = (one.double()(x.double())["prob"].numpy() for one in (net, again))
    # the absorbed weights are rounded to float32, on scores that reach some thousands
    assert np.abs(found - want).max() < 1e-3 and (found.argmax(1) == want.argmax(1)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_other_classes_are_the_definition_for_them(name):
    changed, _, _ = set_classes(NetFile.from_message(NETWORKS[name](224, 230, 11)), 21)
    assert changed == NETWORKS[name](224, 230, 21)


# DeconvNet's fc6 and fc7 have two values a map here, whose statistics let pooling indices and labels tip over.
@pytest.mark.parametrize("name", [name for name in EACH if name.values != ("deconvnet",)])
def test_inference_net_gives_the_training_nets_scores(narrow, name, tmp_path):
    """By the statistics of a batch, on that batch."""
    shapes = {"data": (2, 3, 37, 51), "label": (2, 1, 37, 51)}
    layers = [layer for layer in NETWORKS[name](37, 51, 5, training=Training()).layer if layer.type != "DenseImageData"]
    message = NetParameter(input=list(shapes), layer=layers)
    for shape in shapes.values():
        message.input_shape.add(dim=shape)
    caffe.set_random_seed(0)
    training, images = caffe.Net(message, caffe.TRAIN), np.random.default_rng(0).uniform(0, 255, shapes["data"])
    training.blobs["data"].data[...] = images
    training.save(tmp_path / "trained.caffemodel")
    write_merged(bn_statistics(training, iterations=1), tmp_path / "trained.caffemodel", tmp_path / "merged.caffemodel")
    testing = caffe.Net(message, str(tmp_path / "trained.caffemodel"), caffe.TEST)
    testing.blobs["data"].data[...] = images
    testing.forward()
    scores = next(layer.bottom[0] for layer in layers if layer.type == "SoftmaxWithLoss")
    want = torch.from_numpy(testing.blobs[scores].data).softmax(1)
    inference = caffe.Net(NETWORKS[name](37, 51, 5), str(tmp_path / "merged.caffemodel"), caffe.TEST)
    with torch.no_grad():
        found = inference(data=torch.from_numpy(images).float())["prob"]
    assert (found - want).abs().max() < 1e-4 and want.std() > 0.01
