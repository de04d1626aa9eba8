"""The networks of the paper's tables: their sizes, what they compute, and the published nets that they come from."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import caffe_compat as caffe
from caffe_compat.build_graph import build_graph
from prototxt.caffe_pb2 import SolverParameter
from prototxt.errors import CaffeError
from prototxt.net_file import NetFile, read_net
from segnet.networks import NETWORKS, Training
from tests.converters.emitted import fill
from tests.shared import SHARED, needs_shared

#: A name and an image size each: one that halves evenly and an odd one, as small as the network takes them.
EVEN_AND_ODD = [
    (name, size)
    for name in NETWORKS
    for size in (((224, 224), (193, 197)) if name == "deconvnet" else ((32, 48), (37, 51)))
]


def graph(name, *size, training=None, batch=1):
    """Shapes without values."""
    net = NETWORKS[name](*size, batch_size=batch, training=training)
    height, width, _ = size
    shapes = {"data": (batch, 3, height, width), "label": (batch, 1, height, width)} if training else {}
    return build_graph(NetFile.from_message(net), caffe.TRAIN if training else caffe.TEST, input_shapes=shapes)


def node(graph, name):
    return next(node for node in graph.nodes if node.layer.name == name)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(360, 480), (224, 224), (375, 500), (193, 261)])
def test_scores_have_the_size_of_the_image(name, size):
    assert graph(name, *size, 11, batch=2).blobs["prob"] == (2, 11, *size)
    trained = graph(name, *size, 37, training=Training("list.txt", batch_size=3), batch=3)
    assert trained.outputs == ["accuracy", "loss", "per_class_accuracy"]
    assert next(node for node in trained.nodes if node.layer.is_loss).bottom_shapes[0] == (3, 37, *size)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "deconvnet"])
def test_every_small_size(name):
    for size in range(1, 40):
        assert graph(name, size, 41 - size, 2).blobs["prob"] == (1, 2, size, 41 - size)


def test_sizes_that_cannot_be():
    with pytest.raises(CaffeError, match="192x300; expected at least 193 rows and columns"):
        NETWORKS["deconvnet"](192, 300, 11)
    with pytest.raises(CaffeError) as error:
        NETWORKS["fcn_basic"](0, 480, 0)
    assert error.value.problems == (
        "fcn_basic: height 0; expected at least 1",
        "fcn_basic: classes 0; expected at least 1",
    )


@pytest.mark.parametrize(("name", "size"), EVEN_AND_ODD)
def test_each_runs(narrow, name, size):
    net = fill(caffe.Net(NETWORKS[name](*size, 5, batch_size=2), caffe.TEST))
    with torch.no_grad():
        outputs = net(data=torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 255)
    assert list(outputs) == ["prob"] and outputs["prob"].shape == (2, 5, *size)
    torch.testing.assert_close(outputs["prob"].sum(1), torch.ones(2, *size))
    assert len(outputs["prob"].argmax(1).unique()) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_training_lowers_the_loss(narrow, name):
    size = (193, 193) if name == "deconvnet" else (24, 32)
    layers = NETWORKS[name](*size, 3, training=Training(batch_size=2, class_weights=[1, 2, 1])).layer
    caffe.set_random_seed(0)
    param = SolverParameter(base_lr=0.01, momentum=0.9, lr_policy="fixed")
    param.net_param.layer.extend(layer for layer in layers if layer.type not in ("DenseImageData", "Accuracy"))
    for top, channels in (("data", 3), ("label", 1)):
        param.net_param.input.append(top)
        param.net_param.input_shape.add(dim=(2, channels, *size))
    solver = caffe.get_solver(param)
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, *size))
    labels = images[:, :1] // 64  # 0 to 3, of which 3 is void
    solver.net.blobs["data"].data[...] = images
    solver.net.blobs["label"].data[...] = labels
    fixed = {key: net[0].data.copy() for key, net in solver.net.params.items() if key.startswith("upscore")}
    losses = []
    for _ in range(8):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert 0 < min(losses[-2:]) < losses[0]
    for key, before in fixed.items():
        assert np.array_equal(solver.net.params[key][0].data, before) == (name != "fcn_learnt_deconvolution")


def enlarged(net, name, bottom, factor):
    """A deconvolution's top, and what bilinear interpolation makes of its bottom."""
    x = torch.rand(2, *net.blobs[bottom].shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return net.layer[name](x), F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("name", "layer", "bottom", "factor", "pad"),
    [
        ("fcn", "upscore2", "score_fr", 2, 0),
        ("fcn", "upscore_pool4", "fuse_pool4", 2, 0),
        ("fcn", "upscore8", "fuse_pool3", 8, 0),
        ("deeplab_largefov", "upscore8", "fc8", 8, 4),
        ("bilinear_interpolation", "upscore", "conv_classifier", 16, 8),
    ],
)
def test_fixed_deconvolutions_interpolate(narrow, name, layer, bottom, factor, pad):
    net = caffe.Net(NETWORKS[name](61, 83, 5), caffe.TEST)
    found, expected = enlarged(net, layer, bottom, factor)
    edge = factor // 2 - pad  # without padding it reaches so far beyond
    found = found[:, :, edge : found.shape[2] - edge, edge : found.shape[3] - edge]
    assert found.shape == expected.shape
    inside = slice(factor // 2, -(factor // 2))  # nearer to the edge zeros come in, where torch repeats the edge
    torch.testing.assert_close(found[:, :, inside, inside], expected[:, :, inside, inside])
    assert net.params[layer][0].needs_diff is False


def test_fcn_crops_within_what_is_interpolated():
    """The padding of 100 keeps every pixel of the scores away from the edge of what is enlarged."""
    for size in ((360, 480), (37, 51)):
        shapes = graph("fcn", *size, 11).blobs
        assert all(31 >= 4 and 31 + length + 4 <= shapes["upscore8"][axis] for axis, length in enumerate(size, 2))


def test_deeplab_predicts_at_45_by_60():
    found = graph("deeplab_largefov", 360, 480, 11)
    planes = {name: found.blobs[name][2:] for name in ("conv3_3", "pool3", "conv4_3", "conv5_3", "fc6", "fc8")}
    eighth, quarter = (45, 60), (90, 120)
    assert planes == dict(conv3_3=quarter, pool3=quarter, conv4_3=quarter, conv5_3=eighth, fc6=eighth, fc8=eighth)
    assert node(found, "pool3").layer.stride == (1, 1)
    dilated = {n.layer.name: n.layer.window.dilation[0] for n in found.nodes if n.layer.type == "Convolution"}
    assert {name for name, d in dilated.items() if d == 2} == {f"conv{s}_{i}" for s in (4, 5) for i in (1, 2, 3)}
    assert dilated["fc6"] == 12


def test_what_addition_and_single_channels_are():
    net = caffe.Net(NETWORKS["segnet_basic_encoder_addition"](24, 32, 5), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).uniform(0, 255, (1, 3, 24, 32))
    net.forward()
    for stage in (1, 2, 3, 4):
        blobs = [net.blobs[name].data for name in (f"conv{stage}", f"conv_decode{stage}", f"add{stage}")]
        assert np.array_equal(blobs[0] + blobs[1], blobs[2]) and np.abs(blobs[0]).max() > 0
    single = graph("segnet_basic_single_channel_decoder", 24, 32, 5)
    assert node(single, "conv_decode2").params[0].spec.shape == (64, 1, 7, 7)


def essence(layer, but=()):
    """What a layer is and does, without names of datasets, fillers and rates."""
    found = [layer.type, list(layer.bottom), list(layer.top)]
    param = layer.convolution_param
    if layer.type in ("Convolution", "Deconvolution"):
        found += [list(param.kernel_size), list(param.pad) or [0], list(param.stride) or [1], param.num_output]
    if layer.type == "Pooling":
        found += [layer.pooling_param.kernel_size, layer.pooling_param.stride, layer.pooling_param.pool]
    if layer.type == "Crop":
        found += [layer.crop_param.axis, list(layer.crop_param.offset)]
    return found


@needs_shared
def test_fcn_is_the_published_one_with_batch_normalisation():
    theirs = read_net(SHARED / "prototxt" / "fcn" / "voc-fcn8s" / "deploy.prototxt").message.layer
    theirs = {layer.name: essence(layer) for layer in theirs if layer.type != "Input"}
    for name in ("fcn", "fcn_learnt_deconvolution"):
        layers = NETWORKS[name](500, 500, 21).layer
        added = [layer.name for layer in layers if layer.name not in theirs]
        convolutions = [layer.name for layer in layers if layer.name.startswith(("conv", "fc")) and layer.type != "BN"]
        assert added == [*(f"{name}_bn" for name in convolutions), "prob"] and len(convolutions) == 15
        assert {layer.name: essence(layer) for layer in layers if layer.name in theirs} == theirs


@needs_shared
def test_deconvnet_is_the_published_one_with_fewer_features():
    path = SHARED / "prototxt" / "deconvnet" / "model" / "DeconvNet" / "DeconvNet_inference_deploy.prototxt"
    theirs = read_net(path).message.layer
    ours = [layer for layer in NETWORKS["deconvnet"](224, 224, 21).layer if layer.type != "Softmax"]
    renamed = {"seg-score-voc": "seg-score"}
    assert [layer.name for layer in ours] == [renamed.get(layer.name, layer.name) for layer in theirs]
    for a, b in zip(ours, theirs, strict=True):
        if b.type == "Unpooling":
            assert (a.type, a.bottom, a.top) == ("Upsample", b.bottom, b.top)
            continue
        if b.name in ("fc6", "fc7"):
            assert (a.convolution_param.num_output, b.convolution_param.num_output) == (1024, 4096)
            b.convolution_param.num_output = 1024
        assert essence(a) == essence(b)
    sizes = build_graph(NetFile.from_message(NETWORKS["deconvnet"](224, 224, 21)), caffe.TEST).blobs
    published = build_graph(read_net(path), caffe.TEST).blobs
    middle = {"fc6", "fc7"}
    assert all(sizes[name] == shape for name, shape in published.items() if name.partition("_")[0] not in middle)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn", "fcn_learnt_deconvolution", "deeplab_largefov", "deconvnet"])
def test_full_width_at_published_size(name):
    net = caffe.Net(NETWORKS[name](360, 480, 11), caffe.TEST)
    with torch.no_grad():
        prob = net(data=torch.rand(1, 3, 360, 480) * 255)["prob"]
    assert prob.shape == (1, 11, 360, 480) and prob.isfinite().all()
