"""Another number of classes: which layers change, what stays, and the command."""

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import NetError
from converters.__main__ import main
from converters.class_count import set_classes
from prototxt.net_file import find_net, parse_net, read_net
from tests.caffe_compat.nets import AUTOENCODER, inputs


def linear(name, bottom, outputs, kind="Convolution", param="kernel_size: 1"):
    return (
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} {param} }} }}\n"
    )


def layer(name, kind, bottoms, top, param=""):
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top}" {param} }}\n'


#: Scores of two depths, enlarged and added, as FCN does it; the features before them have as many channels.
SKIPS = (
    inputs(x=(1, 3, 8, 8))
    + linear("pool", "x", 7, param="kernel_size: 2 stride: 2")
    + linear("low", "pool", 7)
    + linear("up", "low", 7, "Deconvolution", "kernel_size: 2 stride: 2 group: 7 bias_term: false")
    + linear("high", "x", 7)
    + layer("crop", "Crop", ["up", "high"], "crop")
    + layer("sum", "Eltwise", ["high", "crop"], "sum")
    + layer("scale", "Scale", ["sum"], "sum")
    + layer("prob", "Softmax", ["sum"], "prob")
)


def test_scores_are_followed_back_through_sums_and_deconvolutions():
    file = parse_net(SKIPS, "net.prototxt")
    changed, refit, told = set_classes(file, 3)
    assert refit == {"low", "up", "high", "scale"}
    assert sorted(told) == [f"{name}: num_output 3, was 7" for name in ("high", "low", "up")]
    built = caffe.Net(parse_net(str(changed), "changed.prototxt"), caffe.TEST)
    assert built.blobs["prob"].shape == (1, 3, 8, 8) and built.params["up"][0].shape == (3, 1, 2, 2)
    assert built.params["pool"][0].shape == (7, 3, 2, 2) and built.params["scale"][0].shape == (3,)
    assert file.message.layer[1].convolution_param.num_output == 7  # the net that was given stays


@pytest.mark.parametrize("classes", [3, 5])  # 5: as many as there are features
def test_features_before_a_deconvolution_stay(classes):
    text = inputs(x=(1, 3, 8, 8)) + linear("features", "x", 5) + linear("up", "features", 7, "Deconvolution")
    changed, refit, _ = set_classes(parse_net(text, "net.prototxt"), classes)
    assert refit == {"up"} and [one.convolution_param.num_output for one in changed.layer] == [5, classes]


def test_both_phases_change():
    train = linear("one", "x", 4).replace("} }", "} include { phase: TRAIN } }").replace('top: "one"', 'top: "s"')
    test = train.replace("one", "two").replace("TRAIN", "TEST")
    text = inputs(x=(1, 3, 8, 8)) + train + test + layer("prob", "Softmax", ["s"], "p")
    assert set_classes(parse_net(text, "net.prototxt"), 3)[1] == {"one", "two"}


def test_loss_loses_class_weights_that_do_not_fit():
    file = read_net(find_net("segnet_basic_train.prototxt"))
    changed, refit, told = set_classes(file, 5)
    (loss,) = [one for one in changed.layer if one.type == "SoftmaxWithLoss"]
    assert len(refit) == 1 and not loss.loss_param.class_weighting and not loss.loss_param.weight_by_label_freqs
    assert loss.loss_param.ignore_label == 11
    assert any("11 class weights are taken out" in line for line in told)
    same, _, told = set_classes(file, 11)
    assert same == file.message and len(told) == 1
    assert "ignore_label 11 is one of the classes 0 to 19" in "\n".join(set_classes(file, 20)[2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (inputs(x=(1, 4, 5, 6)) + layer("prob", "Softmax", ["x"], "p"), "net.prototxt: no layer makes scores"),
        (
            inputs(x=(1, 4, 5, 6)) + linear("c", "x", 4) + layer("cat", "Concat", ["c", "x"], "s"),
            "layer 'cat' (Concat) makes the scores 's'; the way back through it is not known",
        ),
        (
            inputs(x=(1, 4, 5, 6)) + linear("a", "x", 4) + linear("b", "x", 5),
            r"scores are of 4, 5 classes; expected to be told which number to change \(--old\)",
        ),
    ],
)
def test_what_cannot_be_followed(text, said):
    with pytest.raises(NetError, match=said.replace("(Concat)", r"\(Concat\)")):
        set_classes(parse_net(text, "net.prototxt"), 3)


def test_one_of_several_heads():
    text = inputs(x=(1, 4, 5, 6)) + linear("a", "x", 4) + linear("b", "x", 5)
    changed, refit, _ = set_classes(parse_net(text, "net.prototxt"), 3, old=5)
    assert refit == {"b"} and [one.convolution_param.num_output for one in changed.layer] == [4, 3]
    with pytest.raises(NetError, match="its scores are of 4, 5 classes, none of 7"):
        set_classes(parse_net(text, "net.prototxt"), 3, old=7)


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    before = caffe.Net("net.prototxt", caffe.TEST)
    before.save("net.caffemodel")
    assert main(["set-classes", "net.prototxt", "--classes", "6", "--weights", "net.caffemodel"]) == 0
    assert capsys.readouterr().out == (
        "score: num_output 6, was 2\nwithout weights: score\n"
        "wrote net_6classes.prototxt\nwrote net_6classes.caffemodel\n"
    )
    after = caffe.Net("net_6classes.prototxt", "net_6classes.caffemodel", caffe.TEST)
    assert after.blobs["prob"].shape == (1, 6, 10, 14)
    for name in ("conv1", "bn1"):
        for old, new in zip(before.params[name], after.params[name], strict=True):
            assert np.array_equal(old.data, new.data)
    assert main(["set-classes", "net.prototxt", "--classes", "6"]) == 1
    assert "exists already" in capsys.readouterr().err
