import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from prototxt import caffe_pb2
from prototxt.caffemodel import read_blobproto, read_caffemodel
from prototxt.errors import FormatError, MissingFileError
from prototxt.weights_h5 import read_weights
from tests.prototxt.handmade import blob, layer, message, net, v1_layer
from tests.shared import SHARED, needs_shared

FORMATS = Path(__file__).parents[1] / "golden" / "formats"
WEIGHTS = (FORMATS / "mini_segnet.caffemodel").read_bytes()


def archive(*names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in names:
            file.writestr(name, WEIGHTS)
    return data.getvalue()


def tar():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        file.add(FORMATS / "mini_segnet.caffemodel", "mini_segnet.caffemodel")
    return data.getvalue()


def npz():
    data = io.BytesIO()
    np.savez(data, a=np.zeros(3))
    return data.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 117843215\n"
TORCH_BEFORE_1_6 = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"..."
SAFETENSORS = json.dumps({"w": {"dtype": "F32"}}, separators=(",", ":")).encode()
STATE = caffe_pb2.SolverState(
    iter=100, learned_net="snapshot_iter_100.caffemodel", history=[caffe_pb2.BlobProto(data=[1])]
)
ONNX = message((1, 7), (2, "pytorch"), (3, "2.1"), (7, message((1, message((1, "x"))))), (8, message((2, 17))))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty (0 bytes)"),
        (POINTER, "git-LFS pointer to a file of 117843215 bytes, not the file itself; run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>", "web page"),
        (b"\xef\xbb\xbf<HTML>", "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (b'name: "VGG"\nlayer { name: "data" }\n' * 200, "net definition in text"),
        (b'# SegNet\nlayers { bottom: "data" }\n', "net definition in text"),
        (b'net: "train.prototxt"\nbase_lr: 0.1\n', "solver definition in text"),
        (b"404: Not Found", "text, beginning with '404: Not Found'"),
        ("Zugriff verweigert: größer\n".encode() * 300, "text, beginning with 'Zugriff"),
        (STATE.SerializeToString(), "solver state"),
        (caffe_pb2.SolverState(iter=1, learned_net="a").SerializeToString(), "solver state"),
        (blob(1, 2, legacy=(1, 1, 1, 2)), "single blob (a mean image"),
        (blob(1, 2), "single blob (a mean image"),
        (archive("VGG.caffemodel"), "zip archive, which has to be unpacked"),
        (archive("archive/data.pkl", "archive/data/0"), "PyTorch file"),
        (archive("config.json", "model.weights.h5"), "Keras model"),
        (npz(), "numpy .npz file"),
        (TORCH_BEFORE_1_6, "PyTorch file"),
        (pickle.dumps({"a": 1}, 4), "Python pickle"),
        (gzip.compress(WEIGHTS), "gzip archive, which has to be unpacked"),
        (bz2.compress(WEIGHTS), "bzip2 archive"),
        (lzma.compress(WEIGHTS), "xz archive"),
        (b"7z\xbc\xaf'\x1c\0\4" + bytes(40), "7z archive"),
        (tar(), "tar archive"),
        (struct.pack("<Q", len(SAFETENSORS)) + SAFETENSORS, "safetensors file"),
        (ONNX, "ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG image"),
        (b"\x7fELF" + bytes(60), "not Caffe's (byte"),
        (bytes(100), "not Caffe's (byte 0"),
        (message((1, "a net"), (5, 1)), "neither layers nor values"),
    ],
)
def test_what_a_wrong_file_is(data, words, tmp_path):
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(data)
    for read in (read_caffemodel, read_weights):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)
        assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (POINTER, "git lfs pull"),
        (WEIGHTS, "a net with layers, not a single blob; give a .binaryproto"),
        (STATE.SerializeToString(), "solver state"),
        (blob(1, 2)[:-6], "cut off: it has 9 bytes"),
        (b"\x7fELF", "give a .binaryproto"),
        (blob(1, 2, shape=(3,)), "2 values stored"),
        (b"", "empty"),
    ],
)
def test_what_a_wrong_mean_is(data, words, tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_blobproto(path)
    assert words in str(caught.value)


def test_a_cut_off_file_says_where(tmp_path):
    path = tmp_path / "weights.caffemodel"
    first = net(layer("conv1", "Convolution", (7, blob(1, 2))))
    second = layer("conv2", "Convolution", (7, blob(*range(100))))
    path.write_bytes(first + second[:200])
    body = len(first) + 4  # behind tag and length
    with pytest.raises(FormatError) as caught:
        read_caffemodel(path)
    assert str(caught.value) == (
        f"{path}: cut off: it has {len(first) + 200} bytes and ends within layer 1 'conv2': {len(second) - 4} bytes "
        f"expected from byte {body} on, 196 found; copy or download it again"
    )


def test_a_cut_off_file_of_the_old_generation_says_where(tmp_path):
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(net(v1_layer("conv1", 4, (6, blob(*range(100)))))[:-7])
    with pytest.raises(FormatError, match="ends within layer 0 'conv1'"):
        read_caffemodel(path)


def test_missing_files(tmp_path):
    (tmp_path / "segnet.caffemodel").touch()
    for read in (read_caffemodel, read_weights, read_blobproto):
        with pytest.raises(MissingFileError, match=r"does not exist; did you mean 'segnet.caffemodel'"):
            read(tmp_path / "segnett.caffemodel")
        with pytest.raises(MissingFileError, match="is a folder"):
            read(tmp_path)


def hdf5(path, *names, **attributes):
    with h5py.File(path, "w") as file:
        for name in names:
            file[name] = np.zeros((2, 3))
        file.attrs.update(attributes)


@pytest.mark.parametrize(
    ("names", "attributes", "words"),
    [
        (["model_weights/conv1/conv1/kernel:0"], {}, "Keras weights"),
        (["conv1/conv1/kernel:0"], {"layer_names": ["conv1"]}, "Keras weights"),
        (["layers/conv1/vars/0"], {}, "Keras weights"),
        (["data", "label"], {}, "training data for an HDF5Data layer"),
        (["iter", "history/0"], {}, "solver state (.solverstate.h5)"),
        (["weights"], {}, "without a group /data, so not Caffe's weights (it has weights)"),
        (["data/conv1/kernel"], {}, "layer 'conv1' has 'kernel', expected numbers in datasets 0, 1"),
    ],
)
def test_what_a_wrong_hdf5_file_is(names, attributes, words, tmp_path):
    path = tmp_path / "weights.caffemodel.h5"
    hdf5(path, *names, **attributes)
    with pytest.raises(FormatError) as caught:
        read_weights(path)
    assert words in str(caught.value)
    with pytest.raises(FormatError, match=r"an HDF5 file, which prototxt.weights_h5.read_weights reads"):
        read_caffemodel(path)


def test_a_cut_off_hdf5_file(tmp_path):
    path = tmp_path / "weights.caffemodel.h5"
    path.write_bytes((FORMATS / "mini_bvlc.caffemodel.h5").read_bytes()[:9000])
    with pytest.raises(FormatError, match=r"HDF5 cannot read it .*; copy or download it again"):
        read_weights(path)


@needs_shared
def test_original_files_that_are_no_weights():
    for path in [*SHARED.glob("prototxt/**/*.prototxt"), *SHARED.glob("golden/solvers/**/*.prototxt")]:
        with pytest.raises(FormatError, match="in text"):
            read_weights(path)
    for path in [*SHARED.glob("golden/solvers/**/*.solverstate*"), *SHARED.glob("models/**/*.solverstate")]:
        with pytest.raises(FormatError, match="solver state"):
            read_weights(path)
