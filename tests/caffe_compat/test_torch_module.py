"""What a torch user expects of a module holds for a Net."""

import copy
import pickle

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat import device
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def image():
    return torch.rand(1, 3, 10, 14)


def run(module, image):
    with torch.no_grad():
        return module(image)["prob"]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copies_are_equal_and_independent(clone, image):
    first = net(AUTOENCODER)
    held = first.blobs["prob"].data
    second = clone(first)
    assert torch.equal(run(first, image), run(second, image))
    second.params["score"][0].data[...] += 1
    second.forward(data=image.numpy())
    assert not torch.equal(run(first, image), run(second, image)) and not held.any()


def test_export_and_compile_give_the_same(image):
    module = net(AUTOENCODER)
    with torch.no_grad():
        exported = torch.export.export(module, (image,)).module()
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        for other in (exported, compiled):
            assert torch.allclose(run(other, image), run(module, image))


def test_other_number_types(image):
    module = net(AUTOENCODER).double()
    assert run(module, image.double()).dtype == torch.float64
    assert module.forward(data=image.numpy())["prob"].dtype == np.float64


def test_optimiser_learns():
    torch.manual_seed(0)
    text = (
        inputs(data=(8, 2, 1, 1), label=(8, 1, 1, 1))
        + """
layer { name: "ip" type: "Convolution" bottom: "data" top: "ip" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }"""
    )
    module = net(text, caffe.TRAIN)
    optimiser = torch.optim.SGD(module.parameters(), 1.0)
    data, losses = torch.randn(8, 2, 1, 1), []
    label = (data[:, :1] > 0).float()
    for _ in range(20):
        optimiser.zero_grad()
        loss = module(data=data, label=label)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3


def test_print_shows_layers_and_blobs():
    assert "(pool1): Pooling(conv1 -> pool1, mask1)" in str(net(AUTOENCODER))


def test_phase_follows_train_and_eval():
    module = net(inputs(data=(1, 1, 9, 9)) + 'layer { name: "d" type: "Dropout" bottom: "data" top: "prob" }')
    ones = torch.ones(1, 1, 9, 9)
    assert (run(module, ones) == 1).all()
    assert (run(module.train(), ones) == 0).any()


def test_blobs_are_freed_with_the_net():
    import gc
    import weakref

    module = net(AUTOENCODER)
    module.forward()
    blob = weakref.ref(module.blobs["conv1"])
    gc.disable()
    try:
        del module
        assert blob() is None
    finally:
        gc.enable()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_mode_without_a_gpu_is_an_error():
    with pytest.raises(NetError, match=r"no CUDA device.*set_mode_cpu"):
        caffe.set_mode_gpu()


@pytest.fixture
def cpu_afterwards():
    yield
    device._mode = None


def test_cpu_mode(cpu_afterwards):
    caffe.set_device(0)
    caffe.set_mode_cpu()
    assert net(AUTOENCODER).params["conv1"][0].parameter.device.type == "cpu"


@needs_cuda
def test_gpu_computes_what_the_cpu_computes(cpu_afterwards, image):
    text = "force_backward: true " + AUTOENCODER
    on_cpu = net(text)
    caffe.set_mode_gpu()
    on_gpu = net(text)
    on_gpu.load_state_dict(on_cpu.state_dict())
    assert np.allclose(
        on_gpu.forward(data=image.numpy())["prob"], on_cpu.cpu().forward(data=image.numpy())["prob"], atol=1e-4
    )
    for module in (on_cpu, on_gpu):
        module.blobs["prob"].diff[...] = 1
        module.backward()
    assert np.allclose(on_gpu.params["conv1"][0].diff, on_cpu.params["conv1"][0].diff, atol=1e-3)
