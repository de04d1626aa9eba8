"""Engines against the nets that they are made of: outputs, labels, every size, and what cannot be folded or fused."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.engine import onednn
from caffe_compat.engine.index_pooling import places_of
from caffe_compat.errors import NetError
from segnet.networks import segnet, segnet_basic
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

INFERENCE = AUTOENCODER.replace("bn_param {", "bn_param { bn_mode: INFERENCE ")
PLANES = inputs(x=(2, 4, 7, 6))


def layer(name, kind, bottoms, tops, param=""):
    names = "".join(f' bottom: "{one}"' for one in bottoms.split()) + "".join(f' top: "{one}"' for one in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}"{names} {param} }}\n'


def convolution(name, bottom, top, param="kernel_size: 3 pad: 1"):
    filler = 'weight_filler { type: "msra" } bias_filler { type: "uniform" }'
    return layer(name, "Convolution", bottom, top, f"convolution_param {{ num_output: 4 {param} {filler} }}")


POOL = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
UP = "upsample_param { upsample_h: 7 upsample_w: 6 }"
NETS = {
    "autoencoder": INFERENCE,
    "its BN by the batch": AUTOENCODER,
    "a mask that is an output": PLANES + convolution("c", "x", "c") + layer("p", "Pooling", "c", "p mask", POOL),
    "a mask that is counted with": PLANES
    + layer("p", "Pooling", "x", "p mask", POOL)
    + layer("u", "Upsample", "p mask", "u", UP)
    + layer("e", "Eltwise", "p mask", "e"),
    "one mask for two": PLANES
    + layer("p", "Pooling", "x", "p mask", POOL)
    + layer("r", "ReLU", "p", "r")
    + layer("u", "Upsample", "p mask", "u", UP)
    + layer("v", "Upsample", "r mask", "v", UP),
    "windows of 3": PLANES
    + layer("p", "Pooling", "x", "p mask", POOL.replace("kernel_size: 2", "kernel_size: 3"))
    + layer("u", "Upsample", "p mask", "u", UP),
    "a larger plane": PLANES
    + layer("p", "Pooling", "x", "p mask", POOL)
    + layer("u", "Upsample", "p mask", "u", UP.replace("w: 6", "w: 9")),
    "pooling without a mask": PLANES + convolution("c", "x", "c") + layer("p", "Pooling", "c", "p", POOL),
    "DeconvNet's unpooling": PLANES
    + layer("p", "Pooling", "x", "p mask", POOL)
    + layer("u", "Unpooling", "p mask", "u", "unpooling_param { unpool: MAX kernel_size: 2 unpool_h: 7 unpool_w: 6 }"),
    "a convolution with two readers": PLANES
    + convolution("c", "x", "c")
    + layer("r", "ReLU", "c", "r")
    + layer("e", "Eltwise", "c r", "e"),
    "in place after a split": PLANES
    + convolution("c", "x", "c")
    + layer("e", "ELU", "c", "e")
    + layer("s", "Sigmoid", "c", "s")
    + layer("t", "TanH", "e", "e"),
    "in place on an input": PLANES + layer("s", "Sigmoid", "x", "x"),
    "a view written in place": PLANES
    + layer("f", "Reshape", "x", "f", "reshape_param { shape { dim: 0 dim: -1 } }")
    + layer("s", "Sigmoid", "f", "f"),
    "a slope": PLANES + convolution("c", "x", "c") + layer("r", "ReLU", "c", "c", "relu_param { negative_slope: 0.1 }"),
    "strides, groups, holes": PLANES
    + convolution("c", "x", "c", "kernel_size: 3 stride: 2 pad: 1 group: 2")
    + convolution("d", "c", "d", "kernel_size: 3 dilation: 2 pad: 2")
    + convolution("e", "d", "e", "kernel_h: 1 kernel_w: 3 pad_w: 1"),
    "no bias, deconvolution, concatenation": PLANES
    + convolution("c", "x", "c", "kernel_size: 3 pad: 1 bias_term: false")
    + layer(
        *("d", "Deconvolution", "c", "d"),
        'convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } }',
    )
    + layer("j", "Concat", "c d", "j"),
    "inner product": PLANES
    + convolution("c", "x", "c")
    + layer("i", "InnerProduct", "c", "i", 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'),
    "shared filters": PLANES
    + convolution("c", "x", "c").replace('top: "c"', 'top: "c" param { name: "w" } param { name: "b" }')
    + convolution("d", "c", "d").replace('top: "d"', 'top: "d" param { name: "w" } param { name: "b" }'),
}


def random_images(built, seed=0, sizes=()):
    random = torch.Generator().manual_seed(seed)
    shapes = {name: (*built.blobs[name].shape[:2], *(sizes or built.blobs[name].shape[2:])) for name in built.inputs}
    return {name: torch.rand(shape, generator=random) * 4 - 2 for name, shape in shapes.items()}


def with_statistics(built):
    """Scales and shifts as statistics make them."""
    random = np.random.default_rng(0)
    for node in built.graph.nodes:
        if node.layer.type == "BN":
            scale, shift = node.layer.blobs
            scale.data[...] = random.uniform(0.7, 1.3, scale.shape)
            shift.data[...] = random.normal(0, 0.1, shift.shape)
    return built


@pytest.mark.parametrize("able", [True, False], ids=["oneDNN", "torch alone"])
@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_outputs(text, able, monkeypatch):
    if not able:
        monkeypatch.setattr(onednn, "is_able", lambda *_: False)
    torch.manual_seed(0)
    built = with_statistics(net(text))
    images = random_images(built)
    before = {name: tensor.clone() for name, tensor in images.items()}
    with torch.no_grad():
        expected = built(**images)
    engine = built.engine()
    for _ in range(2):
        found = engine(**images)
        assert list(found) == list(expected)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor.contiguous(), expected[name], atol=1e-5, rtol=1e-4)
    assert all(torch.equal(images[name], before[name]) for name in images)


def test_other_sizes_and_numbers_of_images():
    built = with_statistics(net(INFERENCE))
    engine = built.engine()
    for count, height, width in ((1, 10, 14), (3, 10, 14), (2, 6, 300), (1, 64, 8), (1, 10, 14)):
        image = torch.rand(count, 3, height, width)
        with torch.no_grad():
            expected = built(image)["prob"]
        torch.testing.assert_close(engine(image)["prob"].contiguous(), expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(engine.labels(image).long(), expected.argmax(1))


def test_the_engine_has_weights_of_its_own():
    built = with_statistics(net(INFERENCE))
    image = torch.rand(1, 3, 10, 14)
    engine = built.engine()
    before = engine(image)["prob"].clone()
    built.params["conv1"][0].data[...] = 0
    assert torch.equal(engine(image)["prob"], before)


def test_labels_of_pixels():
    built = with_statistics(net(INFERENCE))
    engine = built.engine()
    pixels = np.random.default_rng(0).integers(256, size=(2, 10, 14, 3), dtype=np.uint8)
    planes = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        blue_first, red_first = (built(planes.flip(1) if flipped else planes)["prob"] for flipped in (False, True))
    assert torch.equal(engine.labels(pixels).long(), blue_first.argmax(1))
    assert torch.equal(engine.labels(torch.from_numpy(pixels), rgb=True).long(), red_first.argmax(1))
    assert torch.equal(engine.labels(pixels[0])[0], engine.labels(pixels)[0])
    with pytest.raises(NetError, match=r"expected \(N, H, W, 3\)"):
        engine.labels(pixels[..., :2])


@pytest.mark.parametrize("more", ["", "top_k: 2", "out_max_val: true"])
def test_labels_of_an_argmax(more):
    text = INFERENCE + layer("a", "ArgMax", "prob", "a", f"argmax_param {{ axis: 1 {more} }}")
    built = with_statistics(net(text))
    built.params["score"][0].data[...] = 0  # all scores are equal: Caffe's ArgMax takes the last
    image = torch.rand(1, 3, 10, 14)
    assert built.engine().labels(image).eq(1).all()
    with torch.no_grad():
        torch.testing.assert_close(built.engine()(image)["a"], built(image)["a"])


def test_half_precision():
    torch.manual_seed(0)
    built = with_statistics(net(INFERENCE))
    image = torch.rand(1, 3, 10, 14)
    with torch.no_grad():
        expected = built(image)["prob"]
    found = built.engine("bf16")(image)["prob"]
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.05


@pytest.mark.parametrize("winograd", [True, False])
@pytest.mark.parametrize("make", [segnet, segnet_basic])
def test_layer_by_layer_with_masks_forced(make, winograd):
    """Each step on what the net has there: nothing before it is carried on."""
    torch.manual_seed(0)
    built = with_statistics(caffe.Net(make(45, 60, 5), caffe.TEST))
    built.forward(data=np.random.default_rng(0).uniform(0, 255, (1, 3, 45, 60)))
    engine = built.engine(winograd=winograd)
    engine._fit({"data": (1, 3, 45, 60)})
    blobs = engine._flow.blobs
    compared = 0
    with torch.no_grad():
        for step in engine._plan(labels=False):
            parts = tuple(content_of(built, blobs[value]) for value in step.reads)
            for value, made in zip(step.writes, step.run(parts), strict=True):
                expected = content_of(built, blobs[value])
                tolerance = 3e-5 * expected.float().abs().max().item()
                if made.dtype == torch.uint8:
                    assert (made == expected).float().mean() > 0.999  # near-ties may turn
                else:
                    torch.testing.assert_close(made, expected, atol=tolerance, rtol=0)
                compared += 1
    assert compared == {segnet: 16, segnet_basic: 14}[make]


def content_of(built, blob):
    """What a blob holds, a mask as places."""
    content = built.blobs[blob].data_tensor().contiguous(memory_format=torch.channels_last)
    if not blob.endswith("_mask"):
        return content
    plane = next(node for node in built.graph.nodes if blob in node.tops).bottom_shapes[0]
    return places_of(content.long(), plane[3])


@pytest.mark.parametrize("make", [segnet, segnet_basic])
def test_bayesian_networks_go_on_drawing(make):
    built = caffe.Net(make(32, 40, 3, bayesian=True, batch_size=2), caffe.TEST)
    engine = built.engine()
    image = torch.rand(1, 3, 32, 40).repeat(2, 1, 1, 1)
    first, second = engine(image)["prob"]
    assert not torch.equal(first, second)


def test_what_is_refused():
    with pytest.raises(NetError, match="built for training"):
        net(INFERENCE, caffe.TRAIN).engine()
    with pytest.raises(ValueError, match="expected one of fp32, bf16, fp16"):
        net(INFERENCE).engine("int8")
    engine = net(INFERENCE).engine()
    image = torch.rand(1, 3, 10, 14)
    with pytest.raises(NetError, match="'y' is no input of the net; expected some of data"):
        engine(y=image)
    with pytest.raises(NetError, match=r"2 tensors for a net with 1 inputs \(data\)"):
        engine(image, image)
    with pytest.raises(NetError, match="input 'data' was not given"):
        engine()
    with pytest.raises(NetError, match="conv1"):
        engine(torch.rand(1, 4, 10, 14))
    assert engine(image)["prob"].shape == (1, 2, 10, 14)  # it goes on after an error
    source = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }\n'
    flat = layer("i", "InnerProduct", "x", "i", "inner_product_param { num_output: 3 }")
    with pytest.raises(NetError, match="no layer gives a map of scores"):
        net(source + flat).engine().labels(torch.rand(1, 3, 4, 4))
    with pytest.raises(NetError, match="no layer gives a map of scores"):
        net(inputs(x=(2, 4)) + layer("s", "Sigmoid", "x", "y")).engine().labels(torch.rand(2, 4))
