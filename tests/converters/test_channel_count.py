"""Another number of channels: which inputs change, what their readers' weights become, and the command."""

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import NetError
from converters.__main__ import main
from converters.channel_count import fit_weights, set_channels
from prototxt.net_file import find_net, parse_net, read_net
from tests.caffe_compat.nets import AUTOENCODER, inputs
from tests.converters.test_class_count import layer, linear


def test_images_change_and_labels_stay():
    text = (
        inputs(label=(2, 1, 8, 8), x=(2, 3, 8, 8))
        + layer("norm", "LRN", ["x"], "norm")
        + linear("c", "norm", 5)
        + layer("loss", "SoftmaxWithLoss", ["c", "label"], "loss")
    )
    changed, readers, told = set_channels(parse_net(text, "net.prototxt"), 4)
    assert readers == {"c"} and told == ["input x: 4 channels"]
    assert [list(shape.dim) for shape in changed.input_shape] == [[2, 1, 8, 8], [2, 4, 8, 8]]
    built = caffe.Net(parse_net(str(changed), "changed.prototxt"), caffe.TEST)
    assert built.params["c"][0].shape == (5, 4, 1, 1)


def test_old_input_dims_and_input_layers():
    old = 'input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 ' + linear("c", "x", 5)
    assert list(set_channels(parse_net(old, "net.prototxt"), 1)[0].input_dim) == [1, 1, 8, 8]
    source = 'layer { name: "in" type: "Input" top: "label" top: "x" input_param {'
    source += " shape { dim: 1 } shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }"
    changed, _, _ = set_channels(parse_net(source + linear("c", "x", 5), "net.prototxt"), 6)
    assert [list(shape.dim) for shape in changed.layer[0].input_param.shape] == [[1], [1, 6, 8, 8]]


def test_data_layers_of_pictures():
    file = read_net(find_net("segnet_basic_train.prototxt"))
    changed, readers, told = set_channels(file, 1)
    assert not changed.layer[0].dense_image_data_param.is_color and readers == {"conv1"}
    assert told == ["data: is_color false"]
    assert "take HDF5Data for 4 channels" in set_channels(file, 4)[2][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (layer("bn", "BN", ["x"], "x") + linear("c", "x", 5), "'bn' .BN. does something of its own"),
        (linear("c", "x", 3) + layer("cat", "Concat", ["c", "x"], "s"), "'cat' .Concat. does something of its own"),
        (linear("c", "x", 3, param="kernel_size: 1 group: 3"), "'c' .Convolution. has 3 groups; it cannot be given 4"),
        (layer("r", "ReLU", ["x"], "r"), "no convolution or inner product reads an input"),
    ],
)
def test_what_cannot_be_given_channels(text, said):
    with pytest.raises(NetError, match=f"net.prototxt: .*{said}"):
        set_channels(parse_net(inputs(x=(1, 3, 8, 8)) + text, "net.prototxt"), 4)


def test_weights():
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    more = fit_weights(weight, 4)
    assert np.array_equal(more[:, :3], weight) and not more[:, 3].any() and more.dtype == np.float32
    assert np.array_equal(fit_weights(weight, 2), weight[:, :2])
    assert np.allclose(fit_weights(weight, 1), weight.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_command_keeps_the_function(channels, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    before = caffe.Net("net.prototxt", caffe.TEST)
    before.save("net.caffemodel")
    assert main(["set-channels", "net.prototxt", "--channels", str(channels), "--weights", "net.caffemodel"]) == 0
    stem = f"net_{channels}channels"
    assert capsys.readouterr().out == (
        f"input data: {channels} channels\nconv1: weights (4, {channels}, 3, 3)\n"
        f"wrote {stem}.prototxt\nwrote {stem}.caffemodel\n"
    )
    after = caffe.Net(f"{stem}.prototxt", f"{stem}.caffemodel", caffe.TEST)
    grey = np.random.default_rng(0).normal(size=(1, 1, 10, 14))
    first = before.forward(data=np.repeat(grey, 3, axis=1))["prob"]
    second = after.forward(data=np.repeat(grey, channels, axis=1))["prob"]
    assert np.allclose(first, second, atol=1e-5)
