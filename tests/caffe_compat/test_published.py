"""The published nets of other projects beside SegNet's: FCN, DeconvNet, ENet and BVLC's, read and run unchanged."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.build_graph import build_graph
from prototxt.net_file import read_net, read_solver
from tests.recorded import net_case
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared

PROTOTXT = SHARED / "prototxt"
FILES = sorted(PROTOTXT.rglob("*.prototxt"))
SOLVERS = [path for path in FILES if "solver" in path.name]
NETS = [path for path in FILES if path not in SOLVERS]

_IMAGE = {"data": (1, 3, 500, 500), "label": (1, 1, 500, 500)}
#: What a file cannot tell because its data is not here, by its place below ``prototxt``: one item each.
SHAPES = {
    "fcn/nyud": _IMAGE,
    "fcn/pascal": _IMAGE,
    "fcn/siftflow": {"data": (1, 3, 256, 256), "sem": (1, 1, 256, 256), "geo": (1, 1, 256, 256)},
    "fcn/voc": _IMAGE,
    "bvlc/examples/cifar10": {"data": (4, 3, 32, 32), "label": (4,)},
    "bvlc/examples/hdf5": {"data": (10, 4), "label": (10,)},
    "bvlc/examples/mnist/lenet": {"data": (4, 1, 28, 28), "label": (4,)},
    "bvlc/examples/mnist/mnist_autoencoder": {"data": (4, 1, 28, 28)},
    "bvlc/examples/siamese/mnist_siamese_train": {"pair_data": (4, 2, 28, 28), "sim": (4,)},
    "bvlc/models/bvlc_alexnet/train": {"data": (2, 3, 227, 227), "label": (2,)},
    "bvlc/models/bvlc_googlenet/train": {"data": (2, 3, 224, 224), "label": (2,)},
    "deconvnet/training": {"data": (1, 3, 224, 224), "seg-label": (1, 1, 224, 224)},
    "enet/enet_train_encoder_decoder": {"data": (1, 3, 512, 1024), "label": (1, 1, 512, 1024)},
    "enet/enet_train_encoder.": {"data": (1, 3, 512, 1024), "label": (1, 1, 64, 128)},
}
#: Nets with so many parameters or so large images that a run takes long.
LARGE = ("fcn/", "deconvnet/", "enet/enet_train", "bvlc/models/bvlc_googlenet/train", "bvlc/models/bvlc_alexnet/train")


def place(path):
    return path.relative_to(PROTOTXT).as_posix()


def states(path):
    """The states (phase, stages) in which a file has a net of its own."""
    rules = [rule for layer in read_net(path).message.layer for rule in layer.include]
    found = sorted({(rule.phase, tuple(rule.stage)) for rule in rules})
    staged = {phase for phase, stages in found if stages}  # without a stage such a phase has no data
    return [state for state in found if state[1] or state[0] not in staged] or [
        (caffe.TRAIN if "train" in path.name else caffe.TEST, ())
    ]


def shapes(path):
    return next((given for start, given in SHAPES.items() if place(path).startswith(start)), None)


BUILDS = [(path, *state) for path in NETS for state in states(path)] if SHARED.is_dir() else []
IDS = [f"{place(path)}-{'-'.join(('TEST' if phase else 'TRAIN', *stages))}" for path, phase, stages in BUILDS]


def test_all_files_are_tried():
    assert (len(FILES), len(SOLVERS), len(BUILDS)) == (85, 30, 66)


@pytest.mark.parametrize("path", SOLVERS, ids=place)
def test_solver_is_read(path):
    solver = read_solver(path)
    assert solver.base_lr > 0 and solver.type


@pytest.mark.parametrize(("path", "phase", "stages"), BUILDS, ids=IDS)
def test_graph_is_built(path, phase, stages):
    graph = build_graph(read_net(path), phase, stages=stages, input_shapes=shapes(path))
    assert graph.outputs and graph.parameter_count > 0


def fill_inputs(net):
    """Images at random, and labels 0 and 1 for every loss."""
    random = np.random.default_rng(0)
    makers = {top: node for node in net.graph.nodes for top in node.tops}
    labels = {node.bottoms[-1] for node in net.graph.nodes if node.layer.is_loss}
    while above := {makers[name].bottoms[0] for name in labels if name in makers and makers[name].bottoms} - labels:
        labels |= above
    for name in net.graph.feeds:
        blob = net.blobs[name]
        whole = np.arange(blob.count).reshape(blob.shape) % 2
        blob.data[...] = whole if name in labels else random.uniform(-100, 100, blob.shape)


def fill_parameters(net):
    """Numbers where the fillers leave zeros, as FCN's do, which took its weights from another net."""
    random = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            if not blob.data.any():
                blob.data[...] = random.normal(scale=0.01, size=blob.shape)


def run(path, phase, stages):
    """Forward, and backward where there is a loss."""
    net = caffe.Net(path, phase, stages=stages, input_shapes=shapes(path))
    for name in net.graph.inputs:
        net.blobs[name].reshape(1, *net.blobs[name].shape[1:])
    net.reshape()
    fill_inputs(net)
    fill_parameters(net)
    first = next(i for i, layer in enumerate(net.layers) if not layer.is_source)
    last = len(net.layers) - 1
    with np.errstate(all="raise"):
        net._forward(first, last)
    assert all(np.isfinite(net.blobs[name].data).all() for name in net.outputs)
    if any(any(node.loss_weights) for node in net.graph.nodes) and phase == caffe.TRAIN:
        net._backward(last, first)
        diffs = [blob.diff for blobs in net.params.values() for blob in blobs]
        assert all(np.isfinite(diff).all() for diff in diffs) and any(diff.any() for diff in diffs)


RUNS = [
    pytest.param(path, phase, stages, id=name, marks=[pytest.mark.slow] if place(path).startswith(LARGE) else [])
    for (path, phase, stages), name in zip(BUILDS, IDS, strict=True)
    if not place(path).startswith("segnet-tutorial")
]


@pytest.mark.parametrize(("path", "phase", "stages"), RUNS)
def test_net_runs(path, phase, stages, caplog):
    caplog.set_level(logging.ERROR)
    run(path, phase, stages)


PARAMETERS = {
    "deconvnet/model/DeconvNet/DeconvNet_inference_deploy.prototxt": 251_805_653,
    "bvlc/models/bvlc_alexnet/deploy.prototxt": 60_965_224,
    "enet/enet_deploy_final.prototxt": 367_687,
    "enet/enet_train_encoder.prototxt": 350_207,
    "enet/enet_train_encoder_decoder.prototxt": 372_551,
    "fcn/voc-fcn8s/deploy.prototxt": 134_489_759,
    "bvlc/examples/mnist/lenet.prototxt": 431_080,
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameters_are_as_many_as_caffes(name, count):
    path = PROTOTXT / name
    assert build_graph(read_net(path), states(path)[0][0], input_shapes=shapes(path)).parameter_count == count


_INDEX = SHARED / "golden" / "nets" / "index.txt"
RECORDED = dict(line.split() for line in _INDEX.read_text().splitlines()) if SHARED.is_dir() else {}
OTHERS = [name for name, file in RECORDED.items() if not file.startswith("segnet-tutorial")]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_whole_net_computes_what_caffe_computed(name):
    net = caffe.Net(PROTOTXT / RECORDED[name], caffe.TEST)
    assert net_case(net, SHARED / "golden" / "nets" / f"{name}.npz") == []
