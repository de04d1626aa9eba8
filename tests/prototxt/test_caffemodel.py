import json
import logging
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.caffemodel import new_caffemodel, parse_caffemodel, read_blobproto, read_caffemodel, write_blobproto
from prototxt.errors import FormatError, MissingFileError
from tests.prototxt.handmade import blob, layer, message, net
from tests.shared import SHARED, needs_shared

FORMATS = Path(__file__).parents[1] / "golden" / "formats"
RECORDED = sorted(FORMATS.glob("*.caffemodel"))
DIALECT = {"mini_bvlc": "bvlc", "mini_enet": "enet", "mini_segnet": "segnet"}


def rebuilt(model):
    """The same net and values, with nothing of the file."""
    blobs = {i: [BlobArray(np.array(b.data), b.diff) for b in one.blobs] for i, one in enumerate(model.layers)}
    return new_caffemodel(model.net(), blobs, model.dialect).to_bytes()


# Files that Caffe wrote


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_caffe_wrote_comes_out_as_it_was(path, tmp_path):
    model = read_caffemodel(path)
    assert (model.dialect, model.generation) == (DIALECT[path.stem], "V2")
    model.write(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    model.write(tmp_path / "named", dialect=model.dialect)
    assert (tmp_path / "named").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_is_built_anew_is_what_caffe_wrote(path):
    assert rebuilt(read_caffemodel(path)) == path.read_bytes()


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_contents(path):
    recorded = json.loads(path.with_suffix(".json").read_text())
    model = read_caffemodel(path)
    assert [[one.name, one.type] for one in model.layers] == recorded["layers"]
    found = {f"{one.name}:{i}": b.data for one in model.layers for i, b in enumerate(one.blobs)}
    assert found.keys() == recorded["params"].keys()
    for key, want in recorded["params"].items():
        assert list(found[key].shape) == want["shape"]
        assert zlib.crc32(found[key].tobytes()) == want["crc32"]
        assert found[key].sum(dtype=np.float64) == pytest.approx(want["sum"], rel=1e-12)


@needs_shared
def test_every_file_that_caffe_left():
    paths = [
        path
        for folder in ("golden/real", "golden/solvers", "models")
        for path in (SHARED / folder).rglob("*.caffemodel")
    ]
    assert len(paths) > 10
    for path in paths:
        model = read_caffemodel(path)
        assert model.to_bytes() == rebuilt(model) == path.read_bytes(), path.name


def test_parameters_of_every_layer_are_read():
    segnet = {one.name: one.message for one in read_caffemodel(FORMATS / "mini_segnet.caffemodel").layers}
    enet = {one.name: one.message for one in read_caffemodel(FORMATS / "mini_enet.caffemodel").layers}
    assert segnet["upsample1"].upsample_param.upsample_h == 13
    assert segnet["conv1_bn"].bn_param.bn_mode == caffe_pb2.BNParameter.INFERENCE
    assert segnet["upsample1"] == enet["upsample1"]
    bvlc = {one.name: one.message for one in read_caffemodel(FORMATS / "mini_bvlc.caffemodel").layers}
    assert bvlc["emb"].embed_param.input_dim == 7
    assert bvlc["tile"].tile_param.tiles == 2
    assert bvlc["swish"].swish_param.beta == 1.5
    assert (bvlc["clip"].clip_param.min, bvlc["clip"].clip_param.max) == (-1, 2)


def test_segnet_to_enet_is_what_enet_wrote():
    ours = parse_caffemodel(read_caffemodel(FORMATS / "mini_segnet.caffemodel").to_bytes("enet"))
    theirs = read_caffemodel(FORMATS / "mini_enet.caffemodel")
    assert ours.dialect == "enet"
    upsample = {layer.name: layer.message.SerializeToString() for layer in theirs.layers}["upsample1"]
    assert parse_caffemodel(theirs.to_bytes("segnet", drop_unknown=True)).dialect == "segnet"
    assert next(one for one in ours.layers if one.name == "upsample1").message.SerializeToString() == upsample


@pytest.mark.parametrize("dialect", ["cudnn5", "enet", "crf"])
def test_there_and_back(dialect):
    before = (FORMATS / "mini_segnet.caffemodel").read_bytes()
    there = parse_caffemodel(before).to_bytes(dialect)
    assert there != before
    assert parse_caffemodel(there).to_bytes("segnet") == before


def test_the_net_has_no_blobs_and_is_a_copy():
    model = read_caffemodel(FORMATS / "mini_segnet.caffemodel")
    net = model.net()
    assert net.name == "mini_segnet"
    assert list(net.input) == ["data", "label"]
    assert not any(one.blobs for one in net.layer)
    net.layer[0].name = "other"
    assert model.layers[0].name == "norm"


# Dialects

FILL = message((1, "constant"), (2, 1.0))
BN = layer("bn", "BN", (45, message((1, FILL), (3, 1))))
UPSAMPLE = message((1, 2), (6, 23))
DATA = message((1, "list.txt"), (2, 4))


@pytest.mark.parametrize(
    ("layers", "dialect"),
    [
        ([layer("c", "Convolution", (106, message((1, 3))))], "segnet"),
        ([BN], "segnet"),
        ([BN, layer("up", "Upsample", (137, UPSAMPLE))], "segnet"),
        ([layer("d", "DenseImageData", (138, DATA))], "segnet"),
        ([BN, layer("up", "Upsample", (147, UPSAMPLE))], "enet"),
        ([layer("d", "DenseImageData", (46, DATA))], "enet"),
        ([BN, layer("b", "BatchNorm", (139, message((1, 1))))], "enet"),
        (
            [layer("d", "DenseImageData", (46, DATA)), layer("c", "MultiStageMeanfield", (1000, message((3, 3.0))))],
            "crf",
        ),
        ([layer("i", "Input", (143, message((1, message((1, b"\1\3"))))))], "bvlc"),
        ([layer("s", "Swish", (147, message((1, 1.5))))], "bvlc"),
        ([layer("e", "Embed", (137, message((1, 4))))], "bvlc"),
        ([layer("i", "Interp", (143, message((1, 4), (2, 4))))], "deeplab"),
        ([layer("a", "SegAccuracy", (144, message((2, 255))))], "deeplab"),
        ([layer("c", "DenseCRF", (146, message((1, 10))))], "deeplab"),
        ([layer("c", "Convolution", (106, message((1, 3), (18, 2))))], "bvlc"),
        ([layer("d", "Dropout", (108, message((1, 0.5), (2, 1))))], "segnet"),
        ([layer("l", "SoftmaxWithLoss", (101, message((3, 1), (4, 0.5), (4, 2.0))))], "segnet"),
        ([layer("l", "SoftmaxWithLoss", (101, message((3, 1))))], "bvlc"),
        ([layer("l", "SoftmaxWithLoss", (101, message((3, 2))))], "bvlc"),
        ([layer("l", "SoftmaxWithLoss", (101, message((5, 2))))], "enet"),
        # A fork of its own that writes upsample_param under 150, where DeepLab has something else.
        ([BN, layer("up", "Upsample", (150, UPSAMPLE))], "segnet"),
    ],
)
def test_dialect(layers, dialect):
    data = net(*layers)
    model = parse_caffemodel(data)
    assert model.dialect == dialect
    assert model.to_bytes() == data
    assert new_caffemodel(model.net(), {}, dialect).to_bytes() == data


def test_one_number_means_what_the_type_of_the_layer_says():
    segnet = parse_caffemodel(net(layer("up", "Upsample", (137, UPSAMPLE)))).layers[0].message
    enet = parse_caffemodel(net(layer("up", "Upsample", (147, UPSAMPLE)))).layers[0].message
    bvlc = parse_caffemodel(net(layer("up", "Embed", (137, UPSAMPLE)))).layers[0].message
    assert segnet.upsample_param.upsample_h == enet.upsample_param.upsample_h == 23
    assert (bvlc.embed_param.num_output, bvlc.HasField("upsample_param")) == (2, False)
    deeplab = parse_caffemodel(net(layer("i", "Interp", (143, message((1, 4), (2, 5)))))).layers[0].message
    assert (deeplab.interp_param.height, deeplab.interp_param.width) == (4, 5)


def test_layers_of_forks_that_do_not_go_together_are_read_each_in_its_own():
    data = net(layer("up", "Upsample", (137, UPSAMPLE)), layer("t", "Tile", (138, message((2, 3)))))
    up, tile = parse_caffemodel(data).layers
    assert up.message.upsample_param.upsample_h == 23
    assert tile.message.tile_param.tiles == 3
    assert parse_caffemodel(data).to_bytes() == data


def test_loss_numbers():
    weighted = net(BN, layer("l", "SoftmaxWithLoss", (101, message((1, 11), (3, 1), (4, 0.5)))))
    loss = parse_caffemodel(weighted).layers[1].message.loss_param
    assert (loss.weight_by_label_freqs, list(loss.class_weighting), loss.HasField("normalization")) == (
        True,
        [0.5],
        False,
    )
    by_mode = net(layer("b", "BatchNorm"), layer("l", "SoftmaxWithLoss", (101, message((3, 1)))))
    loss = parse_caffemodel(by_mode).layers[1].message.loss_param
    assert (loss.HasField("weight_by_label_freqs"), loss.HasField("normalization")) == (False, True)
    assert loss.normalization == caffe_pb2.LossParameter.VALID


def test_what_a_dialect_does_not_know_is_named_all_at_once(tmp_path, caplog):
    weighted = layer("loss", "SoftmaxWithLoss", (101, message((3, 1), (4, 0.5))))
    model = parse_caffemodel(net(BN, layer("up", "Upsample", (137, UPSAMPLE)), weighted))
    with pytest.raises(FormatError) as caught:
        model.write(tmp_path / "weights", dialect="bvlc")
    assert [problem.split(": bvlc")[0] for problem in caught.value.problems] == [
        "layer 0 'bn': bn_param",
        "layer 1 'up': upsample_param",
        "layer 2 'loss': loss_param.weight_by_label_freqs",
        "layer 2 'loss': loss_param.class_weighting",
    ]
    assert not list(tmp_path.iterdir())
    with caplog.at_level(logging.WARNING):
        written = model.to_bytes("bvlc", drop_unknown=True)
    assert "layer 1 'up': upsample_param" in caplog.text
    assert written == net(layer("bn", "BN"), layer("up", "Upsample"), layer("loss", "SoftmaxWithLoss", (101, b"")))


def test_an_unknown_dialect_is_named(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'segnet'"):
        read_caffemodel(RECORDED[0]).write(tmp_path / "weights", dialect="segnett")


# What no dialect knows

ODD = message((143, b"\1\2"), (555, "text"), (556, 7)) + b"\xe3\x22\x08\x05\xe4\x22"  # the last is a group
ODD_NET = net(BN) + message((100, message((1, "c"), (2, "Custom"), (7, blob(1, 2)), (10, 9)) + ODD), (777, "text"))


def test_unknown_fields_and_enum_values_stay():
    model = parse_caffemodel(ODD_NET)
    assert model.to_bytes() == ODD_NET
    assert model.layers[1].message.HasField("input_param") is False


def test_unknown_fields_outlive_a_change():
    model = parse_caffemodel(ODD_NET)
    model.layers[1].message.name = "d"
    expected = net(BN) + message((100, message((1, "d"), (2, "Custom"), (7, blob(1, 2)), (10, 9)) + ODD))
    again = parse_caffemodel(model.to_bytes())
    assert again.layers[1].message == parse_caffemodel(expected).layers[1].message
    assert b"\xfa\x08\x02\x01\x02" in model.to_bytes()  # field 143
    assert message((777, "text")) in model.to_bytes()


def test_an_unknown_field_that_means_something_else_elsewhere_is_not_passed_on():
    with pytest.raises(FormatError, match=r"field 143 \(unknown to segnet, something else in enet\)"):
        parse_caffemodel(net(BN, layer("up", "Upsample", (137, UPSAMPLE), (143, b"")))).to_bytes("enet")


def test_text_that_is_not_utf8():
    data = net(layer("c\xf6nv".encode("latin-1"), "Convolution", (7, blob(1))))
    model = parse_caffemodel(data)
    assert model.layers[0].name == "cönv"
    assert model.to_bytes() == data


# Changes


def test_new_values_leave_everything_else_as_it_was():
    before = (FORMATS / "mini_segnet.caffemodel").read_bytes()
    model = parse_caffemodel(before)
    weights = model.layers[1].blobs[0]
    old = weights.data.tobytes()
    weights.data = np.zeros_like(weights.data)
    assert model.to_bytes() == before.replace(old, bytes(len(old)))
    model = parse_caffemodel(ODD_NET)
    model.layers[1].blobs[0].data = np.array([3, 4], np.float32)
    assert model.to_bytes() == ODD_NET.replace(blob(1, 2), blob(3, 4))


def test_a_changed_message_a_layer_less_and_a_blob_more():
    model = read_caffemodel(FORMATS / "mini_segnet.caffemodel")
    bn = next(one for one in model.layers if one.type == "BN")
    bn.message.bn_param.bn_mode = caffe_pb2.BNParameter.LEARN
    bn.blobs.append(BlobArray(np.arange(3, dtype=np.float32)))
    del model.layers[0]
    model.header.name = "other"
    again = parse_caffemodel(model.to_bytes())
    assert again.net() == model.net()
    assert again.net().name == "other"
    np.testing.assert_array_equal(next(one for one in again.layers if one.type == "BN").blobs[2].data, [0, 1, 2])
    assert rebuilt(again) == model.to_bytes()


def test_gradients_are_written():
    made = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="c", type="Convolution")])
    values = np.ones((2, 3), np.float32)
    again = parse_caffemodel(new_caffemodel(made, {0: [BlobArray(values, values * 2)]}).to_bytes())
    np.testing.assert_array_equal(again.layers[0].blobs[0].diff, values * 2)


def test_writing_over_the_file_that_was_read(tmp_path):
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(RECORDED[0].read_bytes())
    model = read_caffemodel(path)
    model.write(path)
    assert path.read_bytes() == RECORDED[0].read_bytes()
    assert [one.name for one in read_caffemodel(path).layers] == [one.name for one in model.layers]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(b"old")
    monkeypatch.setattr(BlobArray, "pieces", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        new_caffemodel(caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter()]), {0: [np.zeros(3)]}).write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_no_folder_to_write_to(tmp_path):
    with pytest.raises(MissingFileError, match="no folder"):
        read_caffemodel(RECORDED[0]).write(tmp_path / "missing" / "weights")


# Damage


def test_all_blobs_with_wrong_counts_are_reported():
    short = [layer(name, "Convolution", (7, blob(1, 2, shape=(3,))), (7, blob(1))) for name in ("a", "b")]
    with pytest.raises(FormatError) as caught:
        parse_caffemodel(net(*short), "weights.caffemodel")
    assert [text.split(" values")[0] for text in caught.value.problems] == [
        "weights.caffemodel: layer 'a', blob 0: 2",
        "weights.caffemodel: layer 'b', blob 0: 2",
    ]


def test_all_damaged_layers_are_reported():
    bad = [layer(name, "Convolution", (106, b"\x0a\x7f")) for name in ("a", "b")]
    with pytest.raises(FormatError) as caught:
        parse_caffemodel(net(*bad))
    assert [text.split(" is")[0] for text in caught.value.problems] == ["weights: layer 0 'a'", "weights: layer 1 'b'"]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_cut_off_at_every_byte(path):
    """Between two layers nothing tells that the rest is missing; anywhere else it is an error."""
    data = path.read_bytes()
    whole = [one.name for one in parse_caffemodel(data).layers]
    read = []
    for length in range(len(data)):
        try:
            read.append([one.name for one in parse_caffemodel(data[:length]).layers])
        except FormatError as error:
            assert length < 12 or "cut off" in str(error) or "neither layers nor values" in str(error), length
    assert read == [whole[: i + 1] for i in range(len(whole) - 1)]


def test_flipped_bytes_raise_nothing_but_format_errors():
    random = np.random.default_rng(0)
    original = np.frombuffer((FORMATS / "mini_segnet.caffemodel").read_bytes(), np.uint8)
    for _ in range(2000):
        data = original.copy()
        places = random.integers(0, len(data), 3)
        data[places] = random.integers(0, 256, 3)
        try:
            model = parse_caffemodel(data.tobytes())
        except FormatError:
            continue
        assert model.to_bytes() == data.tobytes()


# Single blobs


def test_mean_image(tmp_path):
    mean = Path(__file__).parents[1] / "golden" / "data" / "mean.binaryproto"
    values = read_blobproto(mean)
    assert (values.shape, values.dtype) == ((1, 3, 24, 32), np.float32)
    write_blobproto(tmp_path / "mean.binaryproto", values)
    assert (tmp_path / "mean.binaryproto").read_bytes() == mean.read_bytes()


def test_a_blob_without_four_axes_has_a_shape(tmp_path):
    write_blobproto(tmp_path / "blob", np.arange(3, dtype=np.float32))
    assert (tmp_path / "blob").read_bytes() == blob(0, 1, 2)


def test_a_net_is_no_mean_image():
    with pytest.raises(FormatError, match="a net with layers, not a single blob"):
        read_blobproto(RECORDED[0])
