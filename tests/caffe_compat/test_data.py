"""Data: Datum messages as batches."""

import copy
import io
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from caffe_compat.data.datum import DatumSource
from caffe_compat.errors import LayerError, NetError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TEST, TRAIN, DataParameter, Datum, TransformationParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.databases import WRITERS, datum, write_lmdb
from tests.caffe_compat.golden_data import GOLDEN, layer_of
from tests.caffe_compat.nets import inputs, net

CASES = sorted(path.stem for path in GOLDEN.glob("lmdb_*.npz"))
IMAGES = [np.full((2, 4, 5), 10 * number, np.uint8) + np.arange(5, dtype=np.uint8) for number in range(5)]
DATUMS = [datum(image, number + 3) for number, image in enumerate(IMAGES)]


def source(path, seed=1, transform=None, phase=TRAIN, workers=1, labelled=True, **fields):
    param = DataParameter(**{"source": str(path), "batch_size": 2, "backend": DataParameter.LMDB} | fields)
    transform = TransformationParameter(**transform or {})
    return DatumSource(param, transform, phase, Paths(GOLDEN / "x"), seed, workers=workers, labelled=labelled)


@pytest.fixture
def write(tmp_path):
    return lambda values=DATUMS: write_lmdb(tmp_path / "db", values)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
def test_recorded(case, workers):
    layer = layer_of(case)
    batches = DatumSource(layer.data_param, layer.transform_param, TEST, Paths(GOLDEN / "x"), workers=workers)
    with np.load(GOLDEN / f"{case}.npz") as want:
        for number in range(4):
            data, label = batches.next_batch()
            np.testing.assert_allclose(data, want[f"batch{number}:data"], rtol=0, atol=1e-4, strict=True)
            np.testing.assert_array_equal(label, want[f"batch{number}:label"], strict=True)
        assert batches.top_shapes() == [data.shape, label.shape]


def test_recorded_cases_are_all_here():
    assert len(CASES) == 4


@pytest.mark.parametrize("backend", [DataParameter.LMDB, DataParameter.LEVELDB], ids=["lmdb", "leveldb"])
def test_records_go_round(tmp_path, backend):
    batches = source(WRITERS[backend](tmp_path / "db", DATUMS), backend=backend)
    labels = []
    for _ in range(5):
        data, label = batches.next_batch()
        assert data.dtype == label.dtype == np.float32
        assert np.array_equal(data, [IMAGES[int(number) - 3] for number in label])
        labels += label.tolist()
    assert labels == [3 + i % 5 for i in range(10)]
    assert batches.last_files[-1] == (f"{tmp_path / 'db'}: record '00000004_im'",)


def test_floats(write):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    data, label = source(write([datum(values, -2)]), batch_size=1).next_batch()
    assert np.array_equal(data[0], values) and label.tolist() == [-2]


@pytest.mark.parametrize(
    ("transform", "fields", "channels"),
    [
        ({}, {}, (1, 3)),
        ({"force_color": True}, {}, (3, 3)),
        ({}, {"force_encoded_color": True}, (3, 3)),
        ({"force_gray": True}, {}, (1, 1)),
    ],
)
def test_encoded(write, transform, fields, channels):
    values = []
    for mode, color in (("L", 7), ("RGB", (1, 2, 3))):
        file = io.BytesIO()
        Image.new(mode, (5, 4), color).save(file, "PNG")
        values.append(Datum(data=file.getvalue(), encoded=True).SerializeToString())
    batches = source(write(values), transform=transform, batch_size=1, **fields)
    grey, colour = batches.next_batch()[0], batches.next_batch()[0]
    assert (grey.shape, colour.shape) == ((1, channels[0], 4, 5), (1, channels[1], 4, 5))
    assert (grey == 7).all()
    assert colour[0, :, 0, 0].tolist() == ([3, 2, 1] if channels[1] == 3 else [1])


def test_transform(write):
    transform = {"crop_size": 3, "mirror": True, "mean_value": [1], "scale": 0.5}
    batches = source(write(), transform=transform, phase=TEST, batch_size=1, labelled=False)
    seen = set()
    for number in range(40):
        (data,) = batches.next_batch()
        line = (np.array([1, 2, 3], np.float32) + 10 * (number % 5) - 1) / 2
        mirrored = data[0, 0, 0, 0] > data[0, 0, 0, 2]
        assert np.array_equal(data[0], np.broadcast_to(line[::-1] if mirrored else line, (2, 3, 3)))
        seen.add(bool(mirrored))
    assert seen == {False, True}


def drawn(batches, count=8):
    return [tuple(blob.tolist() for blob in batches.next_batch()) for _ in range(count)]


def test_equal_with_any_number_of_workers_and_by_seed(write):
    options = {"transform": {"crop_size": 3, "mirror": True}, "rand_skip": 5}
    path = write()
    runs = [drawn(source(path, 7, workers=workers, **options)) for workers in (0, 1, 3)]
    assert runs[0] == runs[1] == runs[2]
    assert len({str(drawn(source(path, seed, **options))) for seed in range(20)}) == 20


def test_rand_skip(write):
    path = write()
    assert {source(path, seed, rand_skip=3).next_batch()[1][0] for seed in range(30)} == {3, 4, 5}


def test_resume_and_copies_go_on(write):
    path, options = write(), {"transform": {"crop_size": 3, "mirror": True}, "rand_skip": 3}
    batches = source(path, **options)
    drawn(batches, 4)
    other = source(path, 9, **options)
    other.load_state_dict(batches.state_dict())
    copies = [other, pickle.loads(pickle.dumps(batches)), copy.deepcopy(batches)]
    want = drawn(batches)
    assert [drawn(one) for one in copies] == [want] * 3


def test_as_a_torch_dataset(write):
    dataset = source(write())
    assert len(dataset) == 5
    image, label = dataset[-1]
    assert image.dtype == torch.float32 and image.shape == (2, 4, 5)
    assert label.dtype == torch.int64 and int(label) == 7
    loaded = torch.utils.data.DataLoader(dataset, batch_size=5, num_workers=2)
    assert next(iter(loaded))[1].tolist() == [3, 4, 5, 6, 7]


def text(source, top='top: "label"', batch=2, more="backend: LMDB"):
    return (
        f'layer {{ name: "d" type: "Data" top: "data" {top} data_param {{ source: "{source}" batch_size: {batch} '
        f"{more} }} }}"
    )


def test_layer(write):
    path = write()
    both, single = net(text(path)), net(text(path))
    for made in (both, single):  # two nets over one database
        made.forward()
    assert both.blobs["label"].data.tolist() == single.blobs["label"].data.tolist() == [3, 4]
    alone = net(text(path, top=""))
    assert set(alone.forward()) == {"data"} and alone.blobs["data"].shape == (2, 2, 4, 5)


def test_batch_of_one_follows_each_record(write):
    values = [datum(np.ones((1, 4, 5), np.uint8)), datum(np.ones((1, 6, 7), np.uint8))]
    made = net(text(write(values), batch=1))
    assert [made.forward()["data"].shape for _ in range(3)] == [(1, 1, 4, 5), (1, 1, 6, 7), (1, 1, 4, 5)]


def test_v1_settings_reach_the_transform_and_others_are_told(write, caplog):
    path = write()
    old = net(
        f'layers {{ name: "d" type: DATA top: "data" top: "label" data_param {{ source: "{path}" batch_size: 2 '
        "backend: LMDB scale: 0.5 } }"
    )
    assert old.forward()["data"].max() == 7 and not caplog.records
    assert net(text(path, more="backend: LMDB scale: 0.5")).forward()["data"].max() == 14
    assert "layer 'd': data_param { scale } has no effect" in caplog.text


@pytest.mark.parametrize(
    ("options", "data", "label"),
    [
        ({"input_shapes": {"data": (4, 1, 6, 8)}}, (4, 1, 6, 8), (4,)),
        ({"image_size": (6, 8)}, (2, 3, 6, 8), (2,)),
        ({}, (2, 3, 360, 480), (2,)),
    ],
)
def test_net_without_its_database_is_fed_by_hand(options, data, label):
    made = net(text("/nowhere/db"), **options)
    assert (made.blobs["data"].shape, made.blobs["label"].shape) == (data, label)
    with pytest.raises(MissingFileError, match=r"layer 'd' \(Data\): '/nowhere/db' does not exist"):
        made.forward()


def test_leveldb_without_its_package_is_built_and_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "CURRENT").touch()
    monkeypatch.setitem(sys.modules, "plyvel", None)
    made = net(text(tmp_path, more=""), caffe.TRAIN)
    assert "the package plyvel reads" in caplog.text and "fed by hand" in caplog.text
    with pytest.raises(MissingFileError, match=r'layer \'d\'.*pip install "caffe-segnet\[leveldb\]"'):
        made.forward()


def test_empty_database_names_the_layer(write):
    with pytest.raises(NetError, match=r"layer 'd' \(Data\): .*db: the database is empty"):
        net(text(write([])))


def test_classes_outside_the_loss_name_their_record(write):
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" }'
    made = net(inputs(x=(2, 4)) + text(write()) + loss)
    with pytest.raises(NetError, match=r"db: record '00000001_im': \{4: 1\}"):
        made.forward()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"\xff\xff", r"record '00000000_im': not a Datum"),
        (Datum(channels=3, height=4, width=5, data=b"abc").SerializeToString(), r"3 values for the shape \(3, 4, 5\)"),
        (Datum(label=1).SerializeToString(), r"0 values for the shape \(0, 0, 0\)"),
        (Datum(encoded=True, data=b"abc").SerializeToString(), r"record '00000000_im': not an image"),
    ],
)
def test_records_that_are_damaged(write, value, told):
    with pytest.raises(FormatError, match=told):
        source(write([value])).next_batch()


def test_records_that_do_not_fit(write, tmp_path):
    with pytest.raises(LayerError, match=r"record '00000000_im': crop_size 9 is larger than an image of 5×4"):
        source(write(), transform={"crop_size": 9}).next_batch()
    batches = source(write_lmdb(tmp_path / "mixed", [DATUMS[0], datum(np.ones((1, 2, 2), np.uint8))]))
    with pytest.raises(
        LayerError, match=r"'00000000_im' and .*'00000001_im' .*expected one shape\. Give a database of"
    ):
        batches.next_batch()


@pytest.mark.parametrize(
    ("fields", "transform", "told"),
    [
        ({"source": ""}, {}, "data_param has no source"),
        ({}, {"force_color": True, "force_gray": True}, "both force_color and force_gray"),
        ({}, {"mean_file": "a", "mean_value": [1]}, "both mean_file and mean_value"),
    ],
)
def test_settings_that_caffe_refuses(fields, transform, told):
    with pytest.raises(LayerError, match=told):
        source("db", transform=transform, **fields)
