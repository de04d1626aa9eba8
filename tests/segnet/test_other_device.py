"""The shipped networks away from the CPU: passes, engines and solvers leave nothing behind there."""

import pytest
import torch

import caffe_compat as caffe
from caffe_compat.training.passes import make_pass
from prototxt.caffe_pb2 import SolverParameter
from segnet.by_hand import fed_by_hand
from segnet.networks import NETWORKS, Training
from tests.other_device import DEVICE, Watch

SIZES = {"deconvnet": (224, 224)}  # it takes no smaller ones than 193 pixels
SOLVERS = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


def inference_net(name):
    size = SIZES.get(name, (64, 96))
    built = caffe.Net(NETWORKS[name](*size), caffe.TEST, fill=False).to(DEVICE)
    return built, torch.empty(2, 3, *size, device=DEVICE)


def training_message(name):
    size = SIZES.get(name, (64, 96))
    return fed_by_hand(NETWORKS[name](*size, training=Training(batch_size=2)), size)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_for_inference(name):
    built, images = inference_net(name)
    with Watch() as watch, torch.no_grad():
        made = built(images)
    assert made["prob"].device.type == DEVICE
    assert watch.moves == []
    # the least maximum decides how torch may pool, and positions are looked at before values go there
    looking = [one for one in built.layers if one.type in ("Upsample", "Unpooling") or getattr(one, "maximum", False)]
    assert len(watch.waits) == len(looking)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_engine(name, precision):
    built, images = inference_net(name)
    with Watch():
        engine = built.engine(precision)
        engine(images), engine.labels(images)
    with Watch() as watch:
        made = [engine(images)["prob"], engine.labels(images)]
    assert {tensor.device.type for tensor in made} == {DEVICE}
    assert watch.moves == []
    # DeepLab's windows of 3×3 are pooled by the layer, which looks at its maxima
    assert len(watch.waits) == (4 if name == "deeplab_largefov" else 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_pass(name):
    built = caffe.Net(training_message(name), caffe.TRAIN, fill=False).to(DEVICE)
    with Watch() as watch:
        make_pass()(built, lambda loss: None)
    assert {parameter.grad.device.type for parameter in built.parameters() if parameter.requires_grad} == {DEVICE}
    assert watch.moves == []


@pytest.mark.parametrize("options", [{"channels_last": True}, {"checkpointing": True}], ids=str)
def test_lean_training_pass(options):
    built = caffe.Net(training_message("segnet_basic"), caffe.TRAIN, fill=False).to(DEVICE)
    with Watch() as watch:
        make_pass(**options)(built, lambda loss: None)
    assert watch.moves == []


@pytest.mark.parametrize("kind", SOLVERS)
def test_solver(kind):
    settings = {"type": kind, "lr_policy": "fixed", "base_lr": 0.01, "weight_decay": 0.1, "clip_gradients": 1}
    settings |= {"SGD": {"momentum": 0.9}, "Nesterov": {"momentum": 0.9}, "RMSProp": {"rms_decay": 0.9}}.get(kind, {})
    settings |= {"AdaDelta": {"momentum": 0.9, "delta": 1e-6}, "Adam": {"momentum": 0.9, "momentum2": 0.99}}.get(
        kind, {}
    )
    solver = caffe.Solver(SolverParameter(net_param=training_message("segnet_basic"), iter_size=2, **settings))
    solver.net.to(DEVICE)
    with Watch() as watch:
        solver.step(2)
    assert watch.moves == []
