"""SegNet's nets for plain BVLC Caffe, and back."""

import numpy as np
import pytest

import caffe_compat as caffe
from converters.translate import main, translate, translate_files
from prototxt.caffe_pb2 import NetParameter
from prototxt.errors import CaffeError
from prototxt.net_file import find_net, parse_net, read_net
from tests.caffe_compat.nets import AUTOENCODER, net


def message(text, dialect=None):
    return parse_net(text, "net", dialect).message


@pytest.mark.parametrize("name", ["segnet", "segnet_basic"])
def test_there_and_back_is_the_identity(name):
    original = read_net(find_net(name)).message
    there, _ = translate(original, {}, "bvlc")
    assert {layer.type for layer in there.layer} >= {"Input", "Scale", "Python"}
    assert not {layer.type for layer in there.layer} & {"BN", "Upsample"}
    assert translate(there, {}, "segnet")[0] == original


@pytest.mark.parametrize("mode", ["INFERENCE", "LEARN"])
@pytest.mark.parametrize("size", ["scale: 2", "upsample_h: 10 upsample_w: 14", "scale: 2 pad_out_h: true"])
def test_outputs_are_the_same(tmp_path, monkeypatch, mode, size):
    monkeypatch.chdir(tmp_path)
    text = AUTOENCODER.replace("bn_param {", f"bn_param {{ bn_mode: {mode} shift_filler {{ value: 0.3 }}").replace(
        "scale: 2", size
    )
    text = text.replace("dim: 10", "dim: 9") if "pad_out" in size else text
    (tmp_path / "net.prototxt").write_text(text)
    ours = caffe.Net("net.prototxt", caffe.TEST)
    ours.save("net.caffemodel")
    written = translate_files("net.prototxt", "bvlc", "there", "net.caffemodel")
    assert {path.name for path in written} == {"there.prototxt", "there.caffemodel", "index_upsampling.py"}
    theirs = caffe.Net("there.prototxt", "there.caffemodel", caffe.TEST)
    translate_files("there.prototxt", "segnet", "back", "there.caffemodel")
    back = caffe.Net("back.prototxt", "back.caffemodel", caffe.TEST)
    image = np.random.default_rng(0).normal(size=ours.blobs["data"].shape)
    prob = ours.forward(data=image)["prob"]
    assert theirs.dialect == "bvlc" and back.dialect == "segnet"
    assert np.allclose(theirs.forward(data=image)["prob"], prob, atol=1e-5)
    assert np.allclose(back.forward(data=image)["prob"], prob, atol=1e-6)


NORM = 'layer { name: "norm" type: "BatchNorm" bottom: "x" top: "x" batch_norm_param { eps: 0.5 %s } }'
SCALE = 'layer { name: "scale" type: "Scale" bottom: "x" top: "x" scale_param { %s } }'
STATISTICS = [np.array([2.0, 4.0]), np.array([1.0, 7.0]), np.array([2.0])]  # mean 1 2, variance 0.5 3.5


@pytest.mark.parametrize(
    ("text", "blobs", "scale", "shift"),
    [
        (NORM % "" + SCALE % "bias_term: true", {"norm": STATISTICS, "scale": [[3, 4], [1, -1]]}, [3, 2], [-2, -5]),
        (NORM % "" + SCALE % "", {"norm": STATISTICS, "scale": [[3, 4]]}, [3, 2], [-3, -4]),
        (NORM % "use_global_stats: true", {"norm": STATISTICS}, [1, 0.5], [-1, -1]),
        (NORM % "use_global_stats: false", {"norm": STATISTICS}, [1, 1], [0, 0]),
        (SCALE % "bias_term: true", {"scale": [[3, 4], [1, -1]]}, [3, 4], [1, -1]),
    ],
)
def test_norms_become_bn(text, blobs, scale, shift):
    blobs = {name: [np.array(blob, np.float32) for blob in own] for name, own in blobs.items()}
    translated, (own,) = translate(message(text), blobs, "segnet")
    (bn,) = translated.layer
    assert bn.type == "BN" and bn.bn_param.bn_mode == (0 if "use_global_stats: false" in text else 1)
    assert np.allclose([blob.ravel() for blob in own], [scale, shift]) and own[0].shape == (1, 2, 1, 1)


def test_what_was_not_there_does_not_learn():
    (bn,) = translate(message(NORM % "use_global_stats: false"), {}, "segnet")[0].layer
    assert [param.lr_mult for param in bn.param] == [0, 0] and bn.bn_param.scale_filler.value == 1
    (bn,) = translate(message((SCALE % "").replace("top", "param { lr_mult: 3 } top")), {}, "segnet")[0].layer
    assert [param.lr_mult for param in bn.param] == [3, 0]


def test_a_norm_with_another_reader_stays_apart():
    text = NORM.replace('top: "x"', 'top: "y"') % "" + SCALE.replace('"x"', '"y"') % ""
    text += 'layer { name: "s" type: "Silence" bottom: "y" }'
    assert [layer.type for layer in translate(message(text), {}, "segnet")[0].layer] == ["BN", "BN", "Silence"]


def test_dropout_that_samples():
    text = 'layer { name: "d" type: "Dropout" bottom: "x" top: "x" dropout_param { sample_weights_test: true } }'
    original = message(text)
    there, _ = translate(original, {}, "bvlc")
    assert there.layer[0].phase == 0 and there.layer[0].HasField("phase")
    assert not there.layer[0].dropout_param.HasField("sample_weights_test")
    assert translate(there, {}, "segnet")[0] == original


def test_data_layer_becomes_an_input():
    text = """
layer { name: "data" type: "DenseImageData" top: "data" top: "label" dense_image_data_param { batch_size: 2 } }
layer { name: "up" type: "ReLU" bottom: "data" top: "y" }"""
    there, _ = translate(message(text), {}, "bvlc", (6, 8))
    assert [list(shape.dim) for shape in there.layer[0].input_param.shape] == [[2, 3, 6, 8], [2, 1, 6, 8]]
    assert caffe.Net(there, caffe.TEST).blobs["label"].shape == (2, 1, 6, 8)


def test_details_that_differ_are_told(caplog):
    translate(message('layer { name: "a" type: "Accuracy" bottom: "x" bottom: "l" top: "a" }'), {}, "bvlc")
    assert "a tie with the label's score as wrong" in caplog.text
    with pytest.raises(CaffeError, match="takes scores, segnet's probabilities"):
        translate(message('layer { name: "i" type: "InfogainLoss" }'), {}, "bvlc")


def test_everything_that_cannot_be_said_is_listed():
    with pytest.raises(CaffeError) as caught:
        translate(read_net(find_net("bayesian_segnet_basic_train")).message, {}, "bvlc")
    text = "\n".join(caught.value.problems)
    assert (
        "'data': bvlc has no DenseImageData; --input-size makes an input of it" in text
        and "no `class_weighting`" in text
    )
    with pytest.raises(CaffeError, match="3 tops"):
        translate(
            message(AUTOENCODER.replace('top: "conv1" bn_param', 'top: "conv1" top: "m" top: "v" bn_param')), {}, "bvlc"
        )
    with pytest.raises(CaffeError, match="segnet has no ELU"):
        translate(message("layer { name: 'e' type: 'ELU' }"), {}, "segnet")


def test_nothing_is_written_where_something_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    (tmp_path / "net_bvlc.prototxt").write_text("mine")
    assert main(["net.prototxt", "--to", "bvlc"]) == 1
    assert "--force" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt", "net_bvlc.prototxt"]
    assert main(["net.prototxt", "--to", "bvlc", "--force"]) == 0
    assert (tmp_path / "net_bvlc.prototxt").read_text() != "mine"


def test_the_net_given_is_left_alone():
    given = net(AUTOENCODER).graph.source
    before = given.SerializeToString()
    translate(given, {}, "bvlc")
    assert given.SerializeToString() == before and isinstance(given, NetParameter)
