"""Caffe to torch to Caffe is the identity: the published nets, and what Caffe itself trained and wrote."""

from pathlib import Path

import numpy as np
import pytest

import caffe_compat as caffe
from converters.caffe2torch import convert
from converters.pt_file import load_pt, save_pt
from converters.torch2caffe import to_caffe
from prototxt.caffemodel import read_caffemodel
from prototxt.net_file import ZOO, read_net
from tests.caffe_compat.test_published import BUILDS, IDS, LARGE, fill_parameters, place, shapes
from tests.shared import SHARED, needs_shared

FORMATS = Path(__file__).parents[1] / "golden" / "formats"
TRAINED = SHARED / "models" / "segnet_basic_96x128"


def parameters(path):
    """Layer name → the bytes of its blobs, of the layers that have some."""
    return {
        layer.name: [(blob.data.shape, blob.data.tobytes()) for blob in layer.blobs]
        for layer in read_caffemodel(path).layers
        if layer.blobs
    }


def there_and_back(folder, prototxt, weights, phase, **options):
    """A prototxt and a caffemodel through a .pt file; what is written is called ``back``."""
    _, file, _ = convert(str(prototxt), folder / "net.pt", weights=str(weights), phase=phase, **options)
    to_caffe(load_pt(file), folder / "back")
    assert read_net(folder / "back.prototxt").message == read_net(prototxt).message
    return folder / "back.caffemodel"


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_what_caffe_wrote_comes_back_byte_for_byte(tmp_path, dialect):
    weights = FORMATS / f"mini_{dialect}.caffemodel"
    back = there_and_back(tmp_path, weights.with_suffix(".prototxt"), weights, caffe.TEST, dialect=dialect)
    assert back.read_bytes() == weights.read_bytes()


def test_what_enet_wrote_comes_back_in_every_parameter(tmp_path):
    """Not byte for byte: ENet's Caffe also makes an Input layer of ``input``."""
    weights = FORMATS / "mini_enet.caffemodel"
    back = there_and_back(tmp_path, weights.with_suffix(".prototxt"), weights, caffe.TEST, dialect="enet")
    assert parameters(back) == parameters(weights)


@needs_shared
def test_what_caffe_trained_comes_back_byte_for_byte(tmp_path):
    weights = TRAINED / "segnet_basic_96x128_iter_500.caffemodel"
    roots = [("/SegNet", str(SHARED))]
    back = there_and_back(tmp_path, TRAINED / "train.prototxt", weights, caffe.TRAIN, roots=roots)
    assert back.read_bytes() == weights.read_bytes()


OTHERS = [
    (TRAINED / "inference.prototxt", TRAINED / "test_weights.caffemodel"),
    *((path.with_suffix(".prototxt"), path) for path in sorted((SHARED / "golden" / "real").glob("*.caffemodel"))),
]


@needs_shared
@pytest.mark.parametrize(("prototxt", "weights"), OTHERS, ids=[path.stem for _, path in OTHERS])
def test_weights_saved_with_another_net_come_back_bit_for_bit(tmp_path, prototxt, weights):
    back = parameters(there_and_back(tmp_path, prototxt, weights, caffe.TEST))
    before = parameters(weights)
    assert back and back == {name: before[name] for name in back}
    ours = {layer.name: layer for layer in caffe.Net(prototxt, caffe.TEST).graph.message.layer}
    for layer in read_caffemodel(tmp_path / "back.caffemodel").layers:
        message = layer.message
        message.ClearField("phase")
        ours[layer.name].ClearField("phase")
        assert message == ours[layer.name]


def identity(folder, path, phase, stages=(), given=None):
    """A net with weights at random, through Caffe's file, a .pt file, and Caffe's file again."""
    options = {"stages": stages, "input_shapes": given}
    net = caffe.Net(path, phase, **options)
    fill_parameters(net)
    net.save(folder / "random.caffemodel")
    net = caffe.Net(path, str(folder / "random.caffemodel"), phase, **options)
    save_pt(net, folder / "net.pt", trained=True)
    del net
    to_caffe(load_pt(folder / "net.pt"), folder / "back")
    original = read_net(path)  # its text may give the dialect away by what only an older generation has
    assert read_net(folder / "back.prototxt", original.dialect).message == original.message
    assert (folder / "back.caffemodel").read_bytes() == (folder / "random.caffemodel").read_bytes()
    for file in folder.iterdir():  # up to a gigabyte each
        file.unlink()


@pytest.mark.parametrize("path", sorted(ZOO.glob("*basic*.prototxt")), ids=lambda path: path.stem)
def test_shipped_nets(tmp_path, path):
    identity(tmp_path, path, caffe.TRAIN if "train" in path.stem else caffe.TEST)


LARGE_SHIPPED = [path for path in sorted(ZOO.glob("*.prototxt")) if "basic" not in path.stem]


@pytest.mark.slow
@pytest.mark.parametrize("path", LARGE_SHIPPED, ids=lambda path: path.stem)
def test_large_shipped_nets(tmp_path, path):
    identity(tmp_path, path, caffe.TRAIN if "train" in path.stem else caffe.TEST)


def is_large(path):
    name = place(path)
    whole = name.startswith("segnet-tutorial/") and "basic" not in name
    return whole or name.startswith((*LARGE, "bvlc/models"))


PUBLISHED = [
    pytest.param(path, phase, stages, id=name, marks=[pytest.mark.slow] if is_large(path) else [])
    for (path, phase, stages), name in zip(BUILDS, IDS, strict=True)
]


@needs_shared
@pytest.mark.parametrize(("path", "phase", "stages"), PUBLISHED)
def test_published_net(tmp_path, monkeypatch, path, phase, stages):
    monkeypatch.setenv("CAFFE_ROOT_MAP", f"/SegNet={SHARED}")
    identity(tmp_path, path, phase, stages, shapes(path))


@needs_shared
def test_a_value_that_changes_is_seen(tmp_path):
    path, phase, stages = next(build for build in BUILDS if place(build[0]) == "bvlc/examples/mnist/lenet.prototxt")
    net = caffe.Net(path, phase, stages=stages)
    net.save(tmp_path / "one.caffemodel")
    net.params["conv1"][0].data[0, 0, 0, 0] = np.nextafter(net.params["conv1"][0].data[0, 0, 0, 0], np.float32(9))
    to_caffe(net, tmp_path / "two")
    assert (tmp_path / "two.caffemodel").read_bytes() != (tmp_path / "one.caffemodel").read_bytes()
