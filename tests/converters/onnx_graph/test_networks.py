"""Whole networks in ONNX Runtime: the labels are the net's, for one image and for three from the same model."""

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.data.images import read_image
from caffe_compat.data.resize import bilinear
from converters.resizing import resize_net
from prototxt.net_file import find_net, read_net
from segnet.networks import NETWORKS
from tests.shared import SHARED, needs_shared

pytest.importorskip("onnx", reason="needs onnx, the optional extra")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, the optional extra")

from converters.onnx_graph.comparing import LEAST, compare, run_model
from converters.onnx_graph.model import to_onnx, without_samples
from tests.lively import images, lively

SIZES = [(360, 480), (224, 224), (375, 500)]
SHIPPED = [*NETWORKS, "bayesian_segnet", "bayesian_segnet_basic"]


def fitted(path, size, dialect=None):
    """A net for images of a size, its upsampling made to fit."""
    file = read_net(path, dialect)
    return caffe.Net(resize_net(file, size)[0], caffe.TEST, dialect=file.dialect)


def check(net, model, feeds):
    """Compare, and see that the labels mean something: at least three classes with a hundredth of the pixels each.

    A near-tie in one of the last pooling windows moves what a large part of the image is made of. Where labels differ
    for that, the model must agree with the net in float64, which decides such windows as they are.
    """
    told = f"{len(next(iter(feeds.values())))} images"
    (one,) = compare(net, model, feeds)
    values = net.blobs[one.name].data
    shares = np.bincount((values if values.shape[1] == 1 else values.argmax(1)).astype(int).ravel())
    assert (shares > shares.sum() / 100).sum() >= 3
    print(f"{told}: {one.describe()}")
    if one.agreement < LEAST:
        (one,) = compare(net.double(), model, feeds)
        net.float()
        print(f"{told}, net in float64: {one.describe()}")
    assert one.agreement >= LEAST, one


def check_one_and_three(net, size):
    feeds = {"data": images(3, *size)}
    with without_samples(net):
        model = to_onnx(lively(net, feeds)).model
        check(net, model, feeds)
        check(net, model, {"data": feeds["data"][1:2]})


def test_segnet_basic_at_an_odd_size():
    check_one_and_three(fitted(find_net("segnet_basic"), (45, 61)), (45, 61))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped(name, size):
    check_one_and_three(fitted(find_net(name), size), size)


@pytest.mark.slow
def test_samples_have_the_nets_distribution():
    """Bayesian SegNet-Basic draws in both; the means over many samples are one another's but for chance."""
    size, samples = (48, 64), 400
    net = fitted(find_net("bayesian_segnet_basic"), size)
    x = np.repeat(images(1, *size), samples, axis=0)
    with without_samples(net):
        lively(net, {"data": x[:1]})
    found = run_model(to_onnx(net).model, {"data": x})["prob"]
    net.blobs["data"].reshape(*x.shape)
    expected = net.forward(data=x)["prob"]
    assert found.std(0).mean() > 0.02  # they do differ
    chance = np.sqrt((found.var(0) + expected.var(0)) / samples)
    deviations = np.abs(found.mean(0) - expected.mean(0)) / (chance + 1e-6)
    assert deviations.mean() < 1.2  # 0.8 for normal numbers
    assert abs(found.std(0).mean() / expected.std(0).mean() - 1) < 0.05


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("size", [(96, 128), *SIZES])
def test_trained_on_road_scenes(size):
    folder = SHARED / "models" / "segnet_basic_96x128"
    net = fitted(folder / "inference.prototxt", size)
    net.copy_from(folder / "test_weights.caffemodel")
    model = to_onnx(net).model
    scenes = sorted((SHARED / "camvid" / "val").glob("*.png"))[::10]
    x = np.stack([bilinear(read_image(scene), *size).transpose(2, 0, 1) for scene in scenes]).astype(np.float32)
    check(net, model, {"data": x[:1]})
    check(net, model, {"data": x})


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("segnet-tutorial/Example_Models/segnet_model_driving_webdemo", None),
        ("fcn/voc-fcn8s/deploy", None),
        ("enet/enet_deploy_final", None),
        ("deconvnet/model/DeconvNet/DeconvNet_inference_deploy", None),
        ("deconvnet/model/FCN/fcn-8s-pascal-deploy", None),
    ],
)
def test_published_for_segmentation(name, dialect):
    net = caffe.Net(str(SHARED / "prototxt" / f"{name}.prototxt"), caffe.TEST, dialect=dialect)
    feeds = {"data": images(1, *net.blobs["data"].shape[2:])}
    lively(net, feeds)
    check(net, to_onnx(net).model, feeds)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "bvlc_googlenet"])
def test_published_for_classification(name):
    net = caffe.Net(str(SHARED / "prototxt" / "bvlc" / "models" / name / "deploy.prototxt"), caffe.TEST)
    feeds = {"data": images(10, *net.blobs["data"].shape[2:])}
    for one in compare(net, to_onnx(lively(net, feeds)).model, feeds):
        assert one.agreement == 1 and one.difference < 1e-4 * one.scale
