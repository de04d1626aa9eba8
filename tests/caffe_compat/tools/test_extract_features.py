"""extract_features: what blobs hold, as LMDB, HDF5 and npz."""

import h5py
import lmdb
import numpy as np
import pytest
from PIL import Image

import caffe_compat as caffe
from caffe_compat.__main__ import main
from prototxt.caffe_pb2 import Datum
from tests.caffe_compat.tools.said import fail, run

NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 2 } transform_param { scale: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" }
layer { name: "five" type: "Reshape" bottom: "data" top: "five"
  reshape_param { shape { dim: 2 dim: 1 dim: 3 dim: 2 dim: 5 } } include { stage: "never" } }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(f"{number}.png")
    (tmp_path / "list.txt").write_text("0.png 5\n1.png 6\n2.png 7\n")
    (tmp_path / "net.prototxt").write_text(NET)
    caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    return tmp_path


@pytest.fixture
def expected(folder):
    """The values of two batches: images 0, 1, 2, 0."""
    net = caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
    found = {}
    for _ in range(2):
        net.forward()
        for name, blob in net.blobs.items():
            found.setdefault(name, []).append(np.atleast_1d(blob.data).copy())
    return {name: np.concatenate(values) for name, values in found.items()}


def records(path):
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return [(key.decode(), Datum.FromString(bytes(value))) for key, value in transaction.cursor()]


def test_an_lmdb_for_each_blob(folder, expected, capsys):
    blobs = ["data", "fc", "sum", "label"]
    outputs = ",".join(f"out_{name}" for name in blobs)
    said = run(capsys, "extract_features", "net.caffemodel", "net.prototxt", ",".join(blobs), outputs, 2, "lmdb", "CPU")
    assert said[-5:] == [
        "Extracted features of 4 query images for feature blob data",
        "Extracted features of 4 query images for feature blob fc",
        "Extracted features of 2 query images for feature blob sum",
        "Extracted features of 4 query images for feature blob label",
        "Successfully extracted the features!",
    ]
    for name, shape in {"data": (3, 2, 5), "fc": (4, 1, 1), "sum": (1, 1, 1), "label": (1, 1, 1)}.items():
        found = records(f"out_{name}")
        assert [key for key, _ in found] == [f"{number:010d}" for number in range(len(found))]
        for (_, datum), values in zip(found, expected[name], strict=True):
            assert (datum.channels, datum.height, datum.width) == shape and not datum.data
            assert np.array_equal(np.float32(datum.float_data), values.ravel())


def test_files_by_their_ending(folder, expected, capsys):
    run(capsys, "extract_features", "net.caffemodel", "net.prototxt", "data,fc", "data.h5,fc.npz", 2)
    with h5py.File("data.h5") as file:
        assert np.array_equal(file["data"][...], expected["data"]) and file["data"].dtype == np.float32
    with np.load("fc.npz") as file:
        assert np.array_equal(file["fc"], expected["fc"])
    run(capsys, "extract_features", "net.caffemodel", "net.prototxt", "fc", "features", 1, "hdf5")
    with h5py.File("features") as file:
        assert np.array_equal(file["fc"][...], expected["fc"][:2])


@pytest.mark.parametrize(
    ("blobs", "outputs", "said"),
    [
        ("lable,fc", "a,b", "the net has no blob 'lable'; did you mean 'label'?"),
        ("zzz", "a", "expected one of data, label, fc, sum"),
        ("fc,data", "a", "a for the blobs fc, data; expected an output of its own for each blob"),
        ("fc,data", "a,a", "an output of its own"),
    ],
)
def test_mistakes(folder, capsys, blobs, outputs, said):
    assert said in fail(capsys, "extract_features", "net.caffemodel", "net.prototxt", blobs, outputs, 1)
    assert not (folder / "a").exists()


def test_a_datum_has_three_axes(folder, capsys):
    (folder / "net.prototxt").write_text(NET.replace(' include { stage: "never" }', ""))
    error = fail(capsys, "extract_features", "net.caffemodel", "net.prototxt", "fc,five", "a,b", 1)
    assert "blob 'five' has 5 axes; expected 4 at most" in error
    assert not (folder / "a").exists() and not (folder / "b").exists()
    run(capsys, "extract_features", "net.caffemodel", "net.prototxt", "five", "five.npz", 1)
    with np.load("five.npz") as file:
        assert file["five"].shape == (2, 1, 3, 2, 5)


def test_the_gpu_is_chosen_as_in_caffe(folder, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["extract_features", "net.caffemodel", "net.prototxt", "fc", "a"]
    for flags in ([1, "lmdb", "GPU", 2], ["--gpu", 2, 1]):
        assert "no CUDA device" in fail(capsys, *words, *flags)
    with pytest.raises(SystemExit):
        main([*words, "1", "leveldb"])
    assert "'lmdb'" in capsys.readouterr().err
