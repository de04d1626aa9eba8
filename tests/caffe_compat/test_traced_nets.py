"""The shipped nets through torch.export and torch.jit.trace: the same outputs, bit for bit where nothing is fused."""

import io
import warnings

import pytest
import torch
from torch.export import Dim

import caffe_compat as caffe
from converters.resizing import resize_net
from prototxt.net_file import ZOO, read_net
from tests.caffe_compat.nets import AUTOENCODER, net

SIZES = ((48, 64), (61, 83))
#: DeconvNet's fully connected layers take no smaller images.
LARGER_SIZES = ((224, 224), (193, 197))


def sizes(path):
    """At which a net is tried: one that halves evenly, and an odd one."""
    return LARGER_SIZES if path.stem.startswith("deconvnet") else SIZES


#: Which net at which size; tracing the larger ones takes long.
CASES = [
    pytest.param(path, size, marks=[] if quick else [pytest.mark.slow], id=f"{path.stem}-{size[0]}x{size[1]}")
    for path in sorted(ZOO.glob("*.prototxt"))
    for size in sizes(path)
    for quick in [(path.stem, size[0]) == ("segnet_basic", 61)]
]


def shipped(path, size):
    """A shipped net for a size, in its own phase."""
    message, _ = resize_net(read_net(path), size)
    return caffe.Net(message, caffe.TRAIN if "train" in path.stem else caffe.TEST)


def inputs(net, batch, seed=0):
    """Images, and labels with some of the void one, for every input in order."""
    random = torch.Generator().manual_seed(seed)
    shapes = {name: (batch, *net.blobs[name].shape[1:]) for name in net.graph.feeds}
    return tuple(
        torch.randint(0, 12, shape, generator=random).float()
        if name == "label"
        else 255 * torch.rand(shape, generator=random)
        for name, shape in shapes.items()
    )


@torch.no_grad()
def run(module, given):
    """The outputs, with the same random numbers each time: Bayesian nets drop values."""
    torch.manual_seed(1)
    return module(*given)


def check(traced, net, given):
    expected, found = run(net, given), run(traced, given)
    assert expected.keys() == found.keys() and expected
    for name, one in expected.items():
        if one.dim():
            assert torch.equal(one, found[name])
        else:  # a loss: TorchScript fuses its last steps after some passes
            assert torch.allclose(one, found[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("path", "size"), CASES)
def test_export_with_any_batch(path, size):
    net = shipped(path, size)
    given = inputs(net, 2)
    shapes = (tuple({0: Dim("batch", min=1, max=16)} for _ in given),)
    with torch.no_grad():
        traced = torch.export.export(net, given, dynamic_shapes=shapes, strict=False).module()
    for batch in (1, 2, 3):
        check(traced, net, inputs(net, batch, seed=batch))


@pytest.mark.parametrize(("path", "size"), CASES)
def test_jit_trace(path, size):
    net = shipped(path, size)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes are frozen in, and that TorchScript is deprecated
        traced = torch.jit.trace(net, inputs(net, 2), strict=False, check_trace=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for batch in (2, 1):
        check(loaded, net, inputs(net, batch, seed=batch))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ZOO.glob("*.prototxt")), ids=lambda path: path.stem)
def test_strict_export(path):
    net = shipped(path, sizes(path)[0])
    given = inputs(net, 2)
    with torch.no_grad():
        traced = torch.export.export(net, given, strict=True).module()
    check(traced, net, given)


@pytest.mark.parametrize("strict", [False, True], ids=["by running", "strict"])
def test_a_small_net_is_exported_both_ways(strict):
    small = net(AUTOENCODER)
    image = (torch.rand(1, 3, 10, 14),)
    with torch.no_grad():
        program = torch.export.export(small, image, strict=strict)
    check(program.module(), small, image)
    assert {key for key in program.state_dict if key.endswith("conv1.weight")} == {"layer.conv1.weight"}


def test_gradients_go_through_an_exported_net():
    small = net(AUTOENCODER)
    image = torch.rand(1, 3, 10, 14)
    traced = torch.export.export(small, (image,)).module()
    traced(image)["prob"][:, 0].sum().backward()
    small(image)["prob"][:, 0].sum().backward()
    for name, parameter in small.named_parameters():
        assert torch.allclose(traced.get_parameter(name).grad, parameter.grad, atol=1e-6)


def test_positions_outside_the_plane_are_still_an_error_when_nobody_traces():
    text = """
input: "x" input_shape { dim: 1 dim: 1 dim: 2 dim: 2 } input: "mask" input_shape { dim: 1 dim: 1 dim: 2 dim: 2 }
layer { name: "up" type: "Upsample" bottom: "x" bottom: "mask" top: "y" upsample_param { scale: 2 } }"""
    with pytest.raises(caffe.NetError, match="positions from 16"):
        net(text)(torch.rand(1, 1, 2, 2), torch.full((1, 1, 2, 2), 16.0))
