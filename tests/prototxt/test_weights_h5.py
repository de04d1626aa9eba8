import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.caffemodel import Caffemodel
from prototxt.errors import FormatError
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import read_weights, read_weights_h5, write_weights_h5
from tests.shared import SHARED, needs_shared

FORMATS = Path(__file__).parents[1] / "golden" / "formats"
RECORDED = FORMATS / "mini_bvlc.caffemodel.h5"


def tree(path):
    """Everything in an HDF5 file: name → None for a group; type, shape and bytes for a dataset."""
    found = {}

    def visit(name, member):
        assert not member.attrs
        found[name] = (
            (member.dtype.str, member.shape, member[()].tobytes()) if isinstance(member, h5py.Dataset) else None
        )

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def weights(name, *blobs):
    return LayerWeights(caffe_pb2.LayerParameter(name=name), blobs)


def test_what_caffe_wrote_is_what_the_binary_file_holds():
    binary = {layer.name: layer.blobs for layer in read_weights(FORMATS / "mini_bvlc.caffemodel").layers}
    layers = read_weights(RECORDED).layers
    assert {layer.name for layer in layers} == set(binary)
    for layer in layers:
        assert len(layer.blobs) == len(binary[layer.name])
        for ours, theirs in zip(layer.blobs, binary[layer.name], strict=True):
            assert ours.shape == theirs.shape
            assert not ours.legacy
            np.testing.assert_array_equal(ours.data, theirs.data)


def test_what_caffe_wrote_comes_out_as_it_was(tmp_path):
    path = tmp_path / "weights.caffemodel.h5"
    write_weights_h5(path, read_weights(RECORDED).layers)
    assert tree(path) == tree(RECORDED)
    write_weights_h5(path, read_weights(FORMATS / "mini_bvlc.caffemodel").layers)
    assert tree(path) == tree(RECORDED)
    assert os.listdir(tmp_path) == [path.name]


@needs_shared
def test_snapshots_of_caffe_come_out_as_they_were(tmp_path):
    paths = list(SHARED.glob("golden/solvers/**/*.caffemodel.h5"))
    assert paths
    for path in paths:
        write_weights_h5(tmp_path / "weights.h5", read_weights(path).layers)
        assert tree(tmp_path / "weights.h5") == tree(path)


def test_the_content_decides_not_the_name(tmp_path):
    for source, kind in ((RECORDED, "H5Weights"), (FORMATS / "mini_bvlc.caffemodel", Caffemodel.__name__)):
        path = tmp_path / "weights"
        path.write_bytes(source.read_bytes())
        assert type(read_weights(path)).__name__ == kind


def test_a_shared_parameter_is_left_out(tmp_path):
    path = tmp_path / "weights.h5"
    one, two = (BlobArray(np.full(3, value, np.float32)) for value in (1, 2))
    write_weights_h5(path, [weights("a", one, two), weights("b", None, two), weights("c", None)])
    assert sorted(tree(path)) == ["data", "data/a", "data/a/0", "data/a/1", "data/b", "data/b/1", "data/c"]
    a, b, c = read_weights_h5(path).layers
    assert [blob is None for layer in (a, b, c) for blob in layer.blobs] == [False, False, True, False]
    np.testing.assert_array_equal(b.blobs[1].data, two.data)


def test_gradients(tmp_path):
    path = tmp_path / "weights.h5"
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_weights_h5(path, [weights("a", BlobArray(values, values * 2), BlobArray(values))], diff=True)
    assert set(tree(path)) == {"data", "data/a", "data/a/0", "data/a/1", "diff", "diff/a", "diff/a/0", "diff/a/1"}
    first, second = read_weights_h5(path).layers[0].blobs
    np.testing.assert_array_equal(first.diff, values * 2)
    np.testing.assert_array_equal(second.diff, np.zeros_like(values))


def test_more_than_ten_parameters_stay_in_order(tmp_path):
    path = tmp_path / "weights.h5"
    write_weights_h5(path, [weights("a", *(BlobArray(np.float32(i)) for i in range(12)))])
    assert [float(blob.data) for blob in read_weights_h5(path).layers[0].blobs] == list(range(12))


def test_names_with_a_slash(tmp_path):
    path = tmp_path / "weights.h5"
    blob = BlobArray(np.zeros(2, np.float32))
    write_weights_h5(path, [weights("inception/1x1", blob), weights("inception/relu"), weights("inception", blob)])
    assert {layer.name for layer in read_weights_h5(path).layers} == {"inception/1x1", "inception/relu", "inception"}


def test_two_layers_of_one_name_are_refused(tmp_path):
    with pytest.raises(FormatError, match="more than one layer is named 'a'"):
        write_weights_h5(tmp_path / "weights.h5", [weights("a"), weights("a")])
    assert not os.listdir(tmp_path)


def test_doubles_and_integers(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["data/a/0"] = np.array([1 / 3])
        file["data/a/1"] = np.array([3])
    first, second = read_weights_h5(path).layers[0].blobs
    assert (first.data.dtype, second.data.dtype) == (np.float64, np.float32)
