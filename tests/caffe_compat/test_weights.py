"""Weights by layer name: into a net, and out of it as Caffe writes them."""

import logging

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import NetError
from caffe_compat.weights import load_weights
from prototxt.caffemodel import read_caffemodel
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

SHARED = inputs(data=(1, 3, 4, 4)) + "".join(
    f"""
layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}" param {{ name: "w" }}
  convolution_param {{ num_output: 2 kernel_size: 1 weight_filler {{ type: "msra" }} }} }}"""
    for name in "ab"
)


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
@pytest.mark.parametrize("text", [AUTOENCODER, SHARED], ids=["plain", "shared"])
def test_what_is_saved_loads_again(tmp_path, name, text):
    first, second = net(text), net(text)
    first.save(tmp_path / name)
    second.copy_from(tmp_path / name)
    for layer, blobs in first.params.items():
        for a, b in zip(blobs, second.params[layer], strict=True):
            assert np.array_equal(a.data, b.data)


def test_saved_file_holds_what_caffes_does(tmp_path):
    text = (
        SHARED
        + """
layer { name: "s" type: "Eltwise" bottom: "a" bottom: "b" top: "s" }""".replace("Eltwise", "SoftmaxWithLoss")
    )
    text = text.replace('bottom: "b" top: "s"', 'bottom: "label" top: "s"') + inputs(label=(1, 1, 4, 4))
    net(text, caffe.TRAIN).save(tmp_path / "w.caffemodel")
    weights = read_caffemodel(tmp_path / "w.caffemodel")
    assert list(weights.header.input) == ["data", "label"] and not weights.header.input_shape
    assert [layer.name for layer in weights.layers] == ["data_input_0_split", "a", "b", "s"]
    assert all(layer.message.phase == caffe.TRAIN for layer in weights.layers)
    assert [len(layer.blobs) for layer in weights.layers] == [0, 2, 2, 0]
    assert list(weights.layers[-1].message.loss_weight) == [1]


def test_dialect_decides_the_numbers(tmp_path):
    built = net(AUTOENCODER)
    for dialect in ("segnet", "enet"):
        built.save(tmp_path / "w.caffemodel", dialect)
        assert read_caffemodel(tmp_path / "w.caffemodel").dialect == dialect
    with pytest.raises(FormatError, match="bvlc"):
        built.save(tmp_path / "w.caffemodel", "bvlc")
    assert read_caffemodel(tmp_path / "w.caffemodel").dialect == "enet"


def test_report_tells_what_did_not_match(tmp_path, caplog):
    net(AUTOENCODER).save(tmp_path / "w.caffemodel")
    other = net(AUTOENCODER.replace('name: "score"', 'name: "classifier"'))
    report = load_weights(other.graph, tmp_path / "w.caffemodel")
    assert (report.matched, report.only_in_file, report.only_in_net) == (["conv1", "bn1"], ["score"], ["classifier"])
    with caplog.at_level(logging.WARNING):
        other.copy_from(tmp_path / "w.caffemodel")
    assert "classifier" in caplog.text and "score" in caplog.text


def test_all_shape_mismatches_at_once_and_nothing_copied(tmp_path):
    net(AUTOENCODER).save(tmp_path / "w.caffemodel")
    other = net(AUTOENCODER.replace("num_output: 2", "num_output: 3"))
    before = other.params["conv1"][0].data.copy()
    with pytest.raises(NetError) as caught:
        other.copy_from(tmp_path / "w.caffemodel")
    text = str(caught.value)
    assert "(2, 4, 1, 1)" in text and "(3, 4, 1, 1)" in text and "(2,)" in text and "(3,)" in text
    assert np.array_equal(other.params["conv1"][0].data, before)


def test_first_layer_of_a_name_gets_the_weights(tmp_path):
    text = SHARED.replace('param { name: "w" }', "")
    net(text).save(tmp_path / "w.caffemodel")
    twice = net(text.replace('name: "b"', 'name: "a"'))
    twice.copy_from(tmp_path / "w.caffemodel")
    stored = read_caffemodel(tmp_path / "w.caffemodel").layers[1].blobs[0].data
    first, second = (layer for layer in twice.layers if layer.name == "a")
    assert np.array_equal(first.blobs[0].data, stored) and not np.array_equal(second.blobs[0].data, stored)


def test_constructor_takes_weights(tmp_path):
    saved = net(AUTOENCODER)
    saved.save(tmp_path / "w.caffemodel")
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    for built in (
        caffe.Net(tmp_path / "net.prototxt", tmp_path / "w.caffemodel", caffe.TEST),
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST, weights=str(tmp_path / "w.caffemodel")),
    ):
        assert np.array_equal(built.params["score"][0].data, saved.params["score"][0].data)


def test_missing_and_cut_files(tmp_path):
    built = net(AUTOENCODER)
    with pytest.raises(MissingFileError):
        built.copy_from(tmp_path / "none.caffemodel")
    built.save(tmp_path / "w.caffemodel")
    whole = (tmp_path / "w.caffemodel").read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"cut\.caffemodel"):
        built.copy_from(tmp_path / "cut.caffemodel")
