"""Batch normalisation put into the layers around it: the same outputs, fewer layers."""

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.absorbing import absorb
from converters.__main__ import main
from tests.caffe_compat.nets import AUTOENCODER, inputs, net


def layer(name, kind, bottom, top, param=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {param} }}\n'


def bn(bottom, top):
    return layer("bn", "BN", bottom, top, "bn_param { bn_mode: INFERENCE }")


def norm(bottom, top):
    return layer("norm", "BatchNorm", bottom, top, "batch_norm_param { use_global_stats: true }")


def scale(bottom, top, bias):
    return layer("scale", "Scale", bottom, top, f"scale_param {{ bias_term: {bias} }}")


def linear(bottom, top, param, kind="Convolution"):
    field = "inner_product_param" if kind == "InnerProduct" else "convolution_param"
    return layer("linear", kind, bottom, top, f"{field} {{ num_output: 4 {param} }}")


PLANES, FLAT = (2, 4, 5, 6), (2, 4)
CASES = {
    "convolution, BN in place": (PLANES, linear("x", "c", "kernel_size: 3 pad: 1") + bn("c", "c")),
    "convolution without bias, BN": (PLANES, linear("x", "c", "kernel_size: 1 bias_term: false") + bn("c", "y")),
    "convolution in groups, BatchNorm, Scale": (
        PLANES,
        linear("x", "c", "kernel_size: 1 group: 2") + norm("c", "c") + scale("c", "c", "true"),
    ),
    "deconvolution in groups, Scale": (
        PLANES,
        linear("x", "c", "kernel_size: 2 stride: 2 group: 2", "Deconvolution") + scale("c", "c", "false"),
    ),
    "BN, convolution in groups": (PLANES, bn("x", "n") + linear("n", "c", "kernel_size: 3 group: 2")),
    "Scale without offset, padded convolution": (
        PLANES,
        scale("x", "n", "false") + linear("n", "c", "kernel_size: 3 pad: 1"),
    ),
    "inner product, Scale": (FLAT, linear("x", "c", "", "InnerProduct") + scale("c", "c", "true")),
    "transposed inner product, Scale": (
        FLAT,
        linear("x", "c", "transpose: true", "InnerProduct") + scale("c", "c", "true"),
    ),
}


def randomised(built):
    random = np.random.default_rng(0)
    for name, blobs in built.params.items():
        for blob in blobs:
            blob.data[...] = random.uniform(0.5, 1.5, blob.shape) if name == "norm" else random.normal(size=blob.shape)
    return built


def weights_of(built, net):
    return [[blob.data.copy() for blob in built.params.get(layer.name, [])] for layer in net.layer]


@pytest.mark.parametrize(("shape", "text"), CASES.values(), ids=CASES)
def test_outputs_stay(shape, text):
    built = randomised(net(inputs(x=shape) + text))
    folded, own, told = absorb(built.graph.source, weights_of(built, built.graph.source))
    left = [
        one.type for one in folded.layer if one.type not in ("Input", "Convolution", "Deconvolution", "InnerProduct")
    ]
    assert left == [] and len(told) == text.count("layer {") - 1 and all("into linear" in line for line in told)
    after = caffe.Net(folded, caffe.TEST, dialect=built.dialect)
    for one, values in zip(folded.layer, own, strict=True):
        for blob, value in zip(after.params.get(one.name, []), values, strict=True):
            blob.data[...] = value
    x = np.random.default_rng(1).normal(size=shape)
    (expected,), (found,) = (each.forward(x=x).values() for each in (built, after))
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        bn("x", "n") + linear("n", "c", "kernel_size: 3 pad: 1"),  # beyond the edge there is no offset
        linear("x", "c", "kernel_size: 1")
        + bn("c", "n")
        + 'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "n" top: "y" }',  # the convolution has another reader
        linear("x", "c", "kernel_size: 1") + layer("r", "ReLU", "c", "c") + bn("c", "c"),
        linear("x", "c", "kernel_size: 1").replace('top: "c"', 'top: "c" param { name: "shared" }') + bn("c", "c"),
        'layer { name: "c" type: "InnerProduct" bottom: "x" top: "c" inner_product_param { num_output: 4 axis: 3 } }'
        + bn("c", "n"),  # as many outputs as channels, but not channels
    ],
)
def test_what_stays(text):
    built = randomised(net(inputs(x=(1, 4, 5, 6)) + text))
    weights = weights_of(built, built.graph.source)
    folded, own, told = absorb(built.graph.source, weights)
    assert folded == built.graph.source and told == ["bn: stays: no linear layer beside it that nothing else reads"]
    for values, before in zip(own, weights, strict=True):
        assert all(map(np.array_equal, values, before))


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER.replace("bn_param {", "bn_param { bn_mode: INFERENCE"))
    before = randomised(caffe.Net("net.prototxt", caffe.TEST))
    before.save("net.caffemodel")
    assert main(["absorb", "net.prototxt", "net.caffemodel"]) == 0
    assert capsys.readouterr().out.startswith("bn1: into conv1 before it\nwrote net_absorbed.prototxt\n")
    after = caffe.Net("net_absorbed.prototxt", "net_absorbed.caffemodel", caffe.TEST)
    image = np.random.default_rng(0).normal(size=(1, 3, 10, 14))
    assert np.allclose(before.forward(data=image)["prob"], after.forward(data=image)["prob"], atol=1e-5)
    assert main(["absorb", "net.prototxt", "net.caffemodel"]) == 1


def test_command_refuses_weights_of_another_net_and_warns_of_what_does_not_match(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    inference = AUTOENCODER.replace("bn_param {", "bn_param { bn_mode: INFERENCE")
    (tmp_path / "net.prototxt").write_text(inference)
    caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    (tmp_path / "other.prototxt").write_text(inference.replace("num_output: 2", "num_output: 3"))
    assert main(["absorb", "other.prototxt", "net.caffemodel"]) == 1
    assert "layer 'score' (Convolution): blob 0 has the shape (2, 4, 1, 1)" in capsys.readouterr().err
    assert not list(tmp_path.glob("other_absorbed*"))
    (tmp_path / "more.prototxt").write_text(inference.replace('"score"', '"scores"'))
    assert main(["absorb", "more.prototxt", "net.caffemodel"]) == 0
    assert "WARNING: weights of 'score': the net has no such layer" in capsys.readouterr().err
