"""The published files and a network that Caffe trained, run as they are."""

import logging

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.paths import Paths
from caffe_compat.training.labels import check_labels
from prototxt.caffe_pb2 import DenseImageDataParameter, TransformationParameter
from prototxt.solverstate import read_solverstate
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared

TUTORIAL = SHARED / "prototxt" / "segnet-tutorial"
NETS = sorted(path for path in TUTORIAL.rglob("*.prototxt") if "solver" not in path.name)
TRAINED = SHARED / "models" / "segnet_basic_96x128"


@pytest.fixture(autouse=True)
def scenes(monkeypatch):
    """The road scenes where the published files look for them."""
    monkeypatch.setenv("CAFFE_ROOT_MAP", f"/SegNet/CamVid={SHARED / 'camvid'}")


def labels_fit(net):
    """Labels for nets whose data is not there."""
    classes = next(node.bottom_shapes[0][1] for node in net.graph.nodes if node.layer.is_loss)
    shape = net.blobs["label"].shape
    return np.random.default_rng(0).integers(0, classes, shape)


@pytest.mark.parametrize("path", NETS, ids=lambda path: path.stem)
def test_every_published_net_runs(path):
    """Forward at published size, on the road scenes where they are read; backward where there is a loss."""
    training = "train" in path.stem
    net = caffe.Net(path, caffe.TRAIN if training else caffe.TEST)
    reads = [i for i, layer in enumerate(net.layers) if layer.is_source]
    there = bool(reads) and not net.layers[reads[0]].must_guess_size()
    if not there:
        for name in net.graph.feeds:  # one item is enough
            net.blobs[name].reshape(1, *net.blobs[name].shape[1:])
        net.reshape()
        if training:
            net.blobs["label"].data[...] = labels_fit(net)
        net.blobs["data"].data[...] = np.random.default_rng(0).uniform(0, 255, net.blobs["data"].shape)
    last = len(net.layers) - 1
    start = 0 if there else len(reads)
    loss = net._forward(start, last)
    outputs = [net.blobs[name].data for name in net.outputs if name != "label"]
    assert outputs and all(np.isfinite(values).all() for values in outputs)
    if training:
        assert loss > 0
        net._backward(last, start)
        first = next(iter(net.params.values()))[0]
        assert np.isfinite(first.diff).all() and np.abs(first.diff).max() > 0


def test_all_nets_of_the_tutorial_are_tried():
    assert len(NETS) == 18


def images(count):
    """Images of the validation list at 96×128, and their labels, as Caffe's data layer reads them."""
    source = DenseImageSource(
        DenseImageDataParameter(source="/SegNet/CamVid/val.txt", batch_size=count, new_height=96, new_width=128),
        TransformationParameter(),
        caffe.TEST,
        "segnet",
        Paths(TRAINED / "inference.prototxt"),
    )
    return source.next_batch()


def test_trained_net_predicts_what_caffe_predicted(caplog):
    recorded = np.load(TRAINED / "predictions_val.npz")
    with caplog.at_level(logging.WARNING):
        net = caffe.Net(TRAINED / "inference.prototxt", TRAINED / "test_weights.caffemodel", caffe.TEST)
    assert not caplog.records, "every layer's weights matched by name"
    data, labels = images(101)
    with torch.no_grad():
        prob = net(torch.from_numpy(data))["prob"].numpy()
    predictions = prob.argmax(axis=1)
    assert (predictions == recorded["predictions"]).mean() >= 0.999
    # a near-tie in a pooling window that falls the other way moves a few values
    assert (np.abs(prob[:2] - recorded["probabilities"]) < 1e-5).mean() >= 0.99
    labels = labels[:, 0].astype(int)
    counted = labels < 11
    confusion = np.zeros((11, 11), int)
    np.add.at(confusion, (labels[counted], predictions[counted]), 1)
    assert np.abs(confusion - recorded["confusion"]).sum() <= 2e-3 * counted.sum()


@pytest.mark.slow
def test_published_solver_trains_on_the_road_scenes(tmp_path, monkeypatch):
    models = TUTORIAL / "Models"
    places = {"CamVid": SHARED / "camvid", "Models/Training": tmp_path / "snapshots", "Models": models}
    monkeypatch.setenv("CAFFE_ROOT_MAP", ":".join(f"/SegNet/{old}={new}" for old, new in places.items()))
    solver = caffe.get_solver(models / "segnet_basic_solver.prototxt")
    assert len(solver.test_nets) == 1 and check_labels(solver.net) == 367
    before = solver.net.params["conv1"][0].data.copy()
    solver.step(1)
    assert 0 < solver.loss < 10 and np.abs(solver.net.params["conv1"][0].data - before).max() > 0
    assert solver.snapshot() == str(tmp_path / "snapshots" / "segnet_basic_iter_1.solverstate")
    assert (tmp_path / "snapshots" / "segnet_basic_iter_1.caffemodel").stat().st_size > 5_600_000


def test_caffes_state_of_a_training_is_read():
    state = read_solverstate(TRAINED / "segnet_basic_96x128_iter_500.solverstate")
    assert state.iteration == 500 and sum(values.size for values in state.history) == 1_416_587
