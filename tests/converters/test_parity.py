"""A network held against a record: equal where it is, and where it is not, the layer that is to blame."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from converters.comparing import Comparison
from converters.parity import build, compare, describe, deviates, main
from converters.record import Recorder, input_values
from converters.record import main as record_main
from converters.record_file import Record, read_record
from converters.resizing import resize_net
from prototxt.errors import FormatError
from prototxt.net_file import ZOO, read_net
from prototxt.text import format as format_text
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

#: Planes of odd sizes, so that the rounding of the pooling counts.
ODD = AUTOENCODER.replace("dim: 10 dim: 14", "dim: 9 dim: 13").replace("scale: 2", "upsample_h: 9 upsample_w: 13")


@pytest.fixture(params=["whole", "sampled"])
def folder(request, tmp_path, monkeypatch):
    """A record of a small SegNet, made with our own runtime in Caffe's place."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    Path("net.prototxt").write_text(ODD)
    caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    samples = ["--samples", "60"] if request.param == "sampled" else []
    arguments = ["net.prototxt", "net.caffemodel", "--random", "1", "--output", "r.npz", "--caffe", "caffe_compat"]
    assert record_main([*arguments, *samples, "--gradients"]) == 0
    return tmp_path


def test_the_same_is_equal(folder, capsys):
    assert main(["r.npz"]) == 0
    out = capsys.readouterr().out
    assert "EQUAL" in out and "DEVIATES" not in out and "100.0000% of the labels" in out
    comparison = compare(build(read_record("r.npz")), read_record("r.npz"))
    assert len(comparison.rows) == 9 and len(comparison.gradients) == 7  # 7 layers, and two for the positions
    assert max(row.deviation for row in [*comparison.rows, *comparison.gradients]) < 1e-6
    assert all(row.deviation >= 0 for row in comparison.rows)


def test_one_weight(folder, capsys):
    own = caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
    own.params["score"][0].data[1, 2] += 0.01
    own.save("other.caffemodel")
    assert main(["r.npz", "--weights", "other.caffemodel"]) == 1
    out = capsys.readouterr().out
    assert "deviates by itself: score (Convolution), blob 'score': the weights differ: blob 0 of score\n" in out
    assert out.count("by itself") == 1


def test_a_weight_that_changes_nothing_is_told(folder, capsys):
    own = caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
    own.params["score"][0].data[1, 2] *= 1 + 1e-6
    own.save("other.caffemodel")
    assert main(["r.npz", "--weights", "other.caffemodel"]) == 1
    out = capsys.readouterr().out
    assert "by itself" not in out and "\nthe weights differ: blob 0 of score\n" in out


@pytest.mark.parametrize(
    ("old", "new", "layer", "reasons"),
    [
        ("pad: 1", "pad: 0", "conv1 (Convolution)", ["`pad: 1` in the record, `pad: 0` here", "(1, 4, 7, 11) here"]),
        ("kernel_size: 3 pad: 1", "kernel_size: 3 pad: 1 dilation: 2", "conv1 (Convolution)", ["`dilation: 2` here"]),
        ("stride: 2 }", "stride: 2 round_mode: FLOOR }", "pool1 (Pooling)", ["rounded otherwise", "FLOOR"]),
        ("bn_param {", "bn_param { bn_mode: INFERENCE", "bn1 (BN)", ["with `bn_mode: LEARN` it would be as recorded"]),
    ],
)
def test_another_setting(folder, old, new, layer, reasons, capsys):
    assert ODD.count(old) == 1
    Path("other.prototxt").write_text(ODD.replace(old, new))
    assert main(["r.npz", "--prototxt", "other.prototxt"]) == 1
    out = capsys.readouterr().out
    blamed = [line for line in out.splitlines() if line.startswith("deviates by itself")]
    assert len(blamed) == 1 and blamed[0].startswith(f"deviates by itself: {layer}, blob")
    assert all(reason in blamed[0] for reason in reasons)


def test_fillers_are_no_reason():
    own, other = own_and_again()
    record = made_of(own, ODD.replace('"msra"', '"xavier"'))
    other.params["conv1"][0].data[0, 0, 0, 0] += 1
    (row,) = [row for row in compare(other, record).rows if row.bad and not row.inherited]
    assert row.reasons == ["the weights differ: blob 0 of conv1"]


def test_record_made_in_another_bn_mode(folder, capsys):
    """The texts agree, so only the values tell."""
    other = caffe.Net(str(folder / "net.prototxt"), "net.caffemodel", caffe.TEST)
    other.layers[1].affine_only = True
    record = made_of(other, ODD)
    record.weights = "net.caffemodel"
    comparison = compare(build(record), record)
    (blamed,) = [row for row in comparison.rows if row.bad and not row.inherited]
    assert blamed.layer == "bn1" and blamed.reasons == ["with `bn_mode: INFERENCE` it would be as recorded"]


def test_layers_on_one_side_only(folder, capsys):
    line = next(line for line in ODD.splitlines() if '"relu1"' in line)
    Path("other.prototxt").write_text(ODD.replace(line, line.replace('name: "relu1"', 'name: "relu_1"')))
    assert main(["r.npz", "--prototxt", "other.prototxt"]) == 1
    out = capsys.readouterr().out
    assert "layer 'relu1' is only in the record" in out and "layer 'relu_1' is not in the record" in out


def test_net_that_cannot_be_built(folder, capsys):
    Path("other.prototxt").write_text(ODD.replace("upsample_h: 9 upsample_w: 13", "upsample_h: 4 upsample_w: 13"))
    assert main(["r.npz", "--prototxt", "other.prototxt"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "layer 'up1': the prototxt differs: `upsample_h: 9` in the record" in error


def test_weights_that_are_not_there(folder, capsys):
    Path("net.caffemodel").unlink()
    assert main(["r.npz"]) == 2
    assert "give them with --weights" in capsys.readouterr().err


def made_of(own, text, samples=60, gradients=False, **given):
    recorder = Recorder(own, text, samples)
    shapes = {name: own.blobs[name].shape for name in own.inputs}
    recorder.forward(input_values(shapes, given, 1))
    if gradients:
        recorder.backward()
    return Record(recorder.meta, recorder.arrays)


def own_and_again(text=ODD, **options):
    """Two nets of the same weights."""
    torch.manual_seed(0)
    one, other = net(text, **options), net(text, **options)
    other.load_state_dict(one.state_dict())
    return one, other


def blamed(comparison):
    return [row.layer for row in [*comparison.rows, *comparison.gradients] if row.bad and not row.inherited]


def test_sampled_deviation_is_inherited_and_healed_by_whole_blobs():
    own, other = own_and_again()
    record = made_of(own, ODD)  # all blobs here have more than 60 values
    record._arrays["top/1/0/sample"] *= 1.001
    for key in ("top/2/0/sample", "top/2/0/stats"):
        record._arrays[key] *= 1.001
    comparison = compare(other, record)
    assert [(row.layer, row.inherited) for row in comparison.rows if row.bad] == [("bn1", False), ("relu1", True)]
    assert deviates(comparison) and "inherited from there: 1 further" in describe(comparison)


def test_a_value_between_the_samples_moves_the_totals():
    own, other = own_and_again()
    record = made_of(own, ODD)
    record._arrays["top/0/0/stats"][3] *= 1.01  # one maximum that no sample hit
    assert blamed(compare(other, record)) == ["conv1"]


def test_near_ties_are_forced():
    """Caffe chose the other of two equal values: everything after it follows the record."""
    own, other = own_and_again()
    image = np.random.default_rng(0).integers(0, 255, (1, 3, 9, 13)).astype(np.float32)
    image[:, :, :2, :2] = 9
    for one in (own, other):
        one.params["conv1"][0].data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0  # the middle alone
    real = own.layers[3].forward

    def flipped(x):
        y, mask = real(x)
        assert mask[0, 0, 0, 0] == 0
        mask[0, 0, 0, 0] = 14
        return y, mask

    own.layers[3].forward = flipped
    comparison = compare(other, made_of(own, ODD, data=image))
    assert blamed(comparison) == []
    (row,) = [row for row in comparison.rows if row.what.startswith("positions")]
    assert row.deviation == pytest.approx(1 / 140)
    assert other.blobs["up1"].data[0, 0, 0, 0] == 0 and np.array_equal(other.blobs["up1"].data, own.blobs["up1"].data)


@pytest.mark.parametrize(("away", "rows"), [(1, 1), (20, 2)])
def test_positions_that_are_no_near_ties(away, rows):
    own, other = own_and_again()
    real = own.layers[3].forward

    def moved(x):
        """In some windows the position of the largest value is another one of the window."""
        y, mask = real(x)
        mask.view(-1)[:away] = ((mask.view(-1)[:away] // 2) * 2 + 1 - mask.view(-1)[:away] % 2).clamp(max=115)
        return y, mask

    own.layers[3].forward = moved
    comparison = compare(other, made_of(own, ODD))
    assert blamed(comparison) == ["pool1"] * rows
    assert "the recorded positions are not those of the largest values" in describe(comparison)


def test_positions_outside_their_plane():
    own, other = own_and_again()
    record = made_of(own, ODD)
    record._arrays["top/3/1/table"] = record._arrays["top/3/1/table"].astype(np.int32) + 117
    with pytest.raises(FormatError, match="positions of 'pool1' lie outside"):
        compare(other, record)


def test_gradients():
    text = "force_backward: true\n" + ODD
    own, other = own_and_again(text)
    record = made_of(own, text, gradients=True)
    comparison = compare(other, record)
    assert len(comparison.gradients) == 7 and not deviates(comparison)
    assert comparison.gradients[0].layer == "score" and comparison.gradients[-1].kind == "input"
    assert all(record.expected(f"gradient/{i}", shape).scale > 0 for i, (*_, shape) in enumerate(record.gradients))
    number = [gradient[:3] for gradient in record.gradients].index(("param", "bn1", 0))
    record._arrays[f"gradient/{number}"] = record._arrays[f"gradient/{number}"] * 1.5
    comparison = compare(other, record)
    assert blamed(comparison) == ["bn1"] and "of blob 0" in describe(comparison)


def test_draws_of_dropout_are_forced():
    text = ODD.replace(
        'layer { name: "pool1"',
        'layer { name: "drop" type: "Dropout" bottom: "conv1" top: "conv1" '
        'dropout_param { sample_weights_test: true } }\nlayer { name: "pool1"',
    )
    own, other = own_and_again(text)
    record = made_of(own, text)
    comparison = compare(other, record)
    assert record.is_random and comparison.labels is None and not deviates(comparison)
    assert "draws at random" in describe(comparison)
    del record._arrays["top/3/0/kept"]
    assert blamed(compare(other, record)) == ["drop"]


def test_choices_are_counted():
    text = ODD + 'layer { name: "best" type: "ArgMax" bottom: "prob" top: "best" argmax_param { axis: 1 } }'
    own, other = own_and_again(text)
    record = made_of(own, text, samples=10**6)
    assert record._arrays["top/7/0"].dtype == np.uint8
    record._arrays["top/7/0"][0, 0, 0, 0] ^= 1  # of 117
    assert not deviates(compare(other, record))
    record._arrays["top/7/0"] ^= 1
    assert blamed(compare(other, record)) == ["best"]


def test_axes_of_one_do_not_count():
    """As the oldest Caffes have them, which know only four."""
    text = inputs(x=(2, 5)) + 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    text += 'layer { name: "i" type: "InnerProduct" bottom: "r" top: "i" inner_product_param { num_output: 3 } }'
    own, other = own_and_again(text)
    record = made_of(own, text)
    for stage in record.stages:
        stage.shapes = [(*shape, 1, 1) for shape in stage.shapes]
        record._arrays[f"top/{stage.index}/0"] = record._arrays[f"top/{stage.index}/0"].reshape(stage.shapes[0])
    assert not deviates(compare(other, record))
    record.stages[0].shapes = [(5, 2, 1, 1)]
    record._arrays["top/0/0"] = record._arrays["top/0/0"].reshape(5, 2, 1, 1)
    assert blamed(compare(other, record)) == ["r"]


def test_values_that_are_no_numbers():
    own, other = own_and_again()
    other.params["score"][1].data[0] = np.nan
    comparison = compare(other, made_of(own, ODD))
    assert blamed(comparison) == ["score"] and "other shape, or NaN" in describe(comparison)


@pytest.mark.parametrize(
    "name",
    [
        "segnet_basic",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("segnet_basic_train", "bayesian_segnet_basic")),
    ],
)
def test_shipped_networks(name, tmp_path):
    torch.manual_seed(0)
    phase = caffe.TRAIN if name.endswith("train") else caffe.TEST
    path = ZOO / f"{name}.prototxt"
    shapes = {"data": (2, 3, 24, 32)} | ({"label": (2, 1, 24, 32)} if name.endswith("train") else {})
    own = caffe.Net(path, phase, input_shapes=shapes)
    own.save(str(tmp_path / "w.caffemodel"))
    given = {"data": np.random.default_rng(0).integers(0, 255, shapes["data"]).astype(np.float32)}
    given |= {"label": np.zeros(shapes["label"], np.float32)} if "label" in shapes else {}
    record = made_of(own, path.read_text(), 4096, phase == caffe.TRAIN, **given)
    record.phase, record.weights = "train" if phase == caffe.TRAIN else "test", str(tmp_path / "w.caffemodel")
    again = build(record)
    comparison = compare(again, record)
    assert not deviates(comparison), describe(comparison)
    assert len(comparison.rows) >= 35 and bool(comparison.gradients) == (phase == caffe.TRAIN)
    again.params["conv3"][0].data[5, 5, 3, 3] += 0.1
    comparison = compare(again, record)
    assert blamed(comparison)[0] == "conv3" and set(blamed(comparison)) == {"conv3"}


def hostile(path, kind):
    content = path.read_bytes()
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "npz":
        np.savez(path, a=np.ones(3))
    elif kind == "pickle":
        np.savez(path, meta=np.array([{"format": "caffe-record"}], object))
    elif kind == "flipped":
        path.write_bytes(content[:400] + bytes(byte ^ 255 for byte in content[400:440]) + content[440:])
    else:
        with np.load(path) as arrays:
            arrays = dict(arrays)
        meta = json.loads(bytes(arrays["meta"]))
        if kind == "huge":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("top/99/0.npy", header.getvalue() + b"1234")
            return
        if kind == "array missing":
            del arrays["input/data"]
        elif kind == "bad stage":
            meta["stages"][0]["shapes"] = [[-1, 10**30]]
        elif kind == "other shape":
            meta["stages"][0]["shapes"] = [[1, 2]]
        elif kind == "no stages":
            del meta["stages"]
        elif kind == "version":
            meta["version"] = 99
        elif kind == "index":
            arrays["top/3/1/index"] = arrays["top/3/1/index"] + 9
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        np.savez_compressed(path, **arrays)


@pytest.mark.parametrize("folder", ["whole"], indirect=True)
@pytest.mark.parametrize(
    "kind",
    [
        *("text", "empty", "truncated", "npz", "pickle", "flipped", "huge", "array missing", "bad stage"),
        *("other shape", "no stages", "version", "index"),
    ],
)
def test_files_that_are_no_records(folder, kind, capsys):
    hostile(folder / "r.npz", kind)
    assert main(["r.npz"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: r.npz:") and "expected" in error and "\n" not in error.strip()


def test_missing_record(tmp_path, capsys):
    assert main([str(tmp_path / "no.npz")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_the_comparison_leaves_no_hooks():
    own, other = own_and_again()
    comparison = Comparison(other, made_of(own, ODD))
    comparison.run()
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in other.layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segnet_basic", "segnet_train"])
def test_other_rounding_is_far_below_the_tolerance(name):
    """Caffe's convolutions round otherwise; a run in float64 stands for them."""
    torch.manual_seed(0)
    text = format_text(resize_net(read_net(ZOO / f"{name}.prototxt"), (96, 128))[0])
    shapes = {"data": (2, 3, 96, 128), "label": (2, 1, 96, 128)} if name.endswith("train") else {}
    phase = caffe.TRAIN if shapes else caffe.TEST
    own, other = net(text, phase, input_shapes=shapes), net(text, phase, input_shapes=shapes)
    other.load_state_dict(own.state_dict())
    rng = np.random.default_rng(0)
    shape = tuple(own.blobs["data"].shape)
    given = {"data": rng.integers(0, 255, shape).astype(np.float32)}
    given |= {"label": rng.integers(0, 11, shapes["label"]).astype(np.float32)} if shapes else {}
    own.double()
    comparison = compare(other, made_of(own, text, 4096, bool(shapes), **given))
    assert not deviates(comparison), describe(comparison)
    values = [row for row in comparison.rows if row.allowed == comparison.tolerance]
    assert 0 < max(row.deviation for row in values) < comparison.tolerance / 2
