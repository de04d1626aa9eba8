"""Wrong and hostile files: one clear error, nothing executed, nothing left behind, no memory for empty claims."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.data.transform import load_mean
from caffe_compat.errors import NetError
from converters.__main__ import main as small_tools
from converters.caffe2torch import main as caffe2torch
from converters.parity import main as parity
from converters.record_file import read_record
from converters.torch2caffe import main as torch2caffe
from prototxt.caffe_pb2 import BlobProto, BlobShape
from prototxt.errors import FormatError, MissingFileError
from prototxt.net_file import parse_net, read_net
from prototxt.wire import LENGTH, VARINT, tag, varint
from tests.caffe_compat.nets import AUTOENCODER
from tests.converters import mutations


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function that runs a command and expects one error, with a text in it, and no new file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)

    def run(command, *words, said):
        before = set(os.listdir())
        capsys.readouterr()
        assert command(list(words)) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "Traceback" not in error and said in error, error
        assert set(os.listdir()) == before

    return run


def field(number, content):
    return tag(number, LENGTH) + varint(len(content)) + content


def layer(blob):
    return field(100, field(1, b"conv1") + field(2, b"Convolution") + field(7, blob))


def shape(*dims):
    return field(7, BlobShape(dim=dims).SerializeToString())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 117\n", "git-LFS pointer"),
        (layer(shape(1 << 40) + tag(5, LENGTH) + varint(1 << 31) + b"1234"), "damaged"),
        (layer(shape(1 << 62, 1 << 62) + field(5, b"1234")), "asks for"),
        (layer(shape(-1, -1) + field(5, b"1234")), "negative axis"),
        (layer(shape(1) + field(5, b"123")), "multiple of 4"),
        (layer(shape(1) + field(5, b"1234")) + tag(200, 3) * 100_000, "cut off"),
        (layer(shape(1) + field(5, b"1234"))[:-3], "cut off"),
    ],
    ids=["empty", "html", "lfs", "length", "shape", "negative", "packed", "groups", "truncated"],
)
def test_caffemodel(refused, tmp_path, content, said):
    (tmp_path / "x.caffemodel").write_bytes(content)
    refused(small_tools, "inspect", "x.caffemodel", said=said)
    refused(caffe2torch, "net.prototxt", "--weights", "x.caffemodel", said=said)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"<html>", "a web page"), (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer")],
    ids=["empty", "html", "lfs"],
)
def test_prototxt(refused, tmp_path, content, said):
    (tmp_path / "x.prototxt").write_bytes(content)
    refused(small_tools, "inspect", "x.prototxt", said=said)
    refused(caffe2torch, "x.prototxt", said=said)


@pytest.mark.parametrize("name", ["claims", "cycle", "index", "elsewhere"])
def test_hdf5(refused, name):
    with h5py.File("x.caffemodel.h5", "w") as file:
        group = file.create_group("data/conv1")
        if name == "claims":
            group.create_dataset("0", shape=(1 << 36,), dtype="f4", chunks=(1 << 20,))
            said = "are stored"
        elif name == "cycle":
            group["again"] = group
            said = "a second name"
        elif name == "index":
            group.create_dataset("999999999", data=np.zeros(3, "f4"))
            said = "expected numbers in datasets"
        else:
            group["0"] = h5py.ExternalLink("/etc/hostname", "/x")
            said = "in another file"
    refused(small_tools, "inspect", "x.caffemodel.h5", said=said)
    refused(caffe2torch, "net.prototxt", "--weights", "x.caffemodel.h5", said=said)


def test_hdf5_solver_state_that_claims_too_much(refused):
    with h5py.File("x.solverstate.h5", "w") as file:
        file["iter"] = np.array([1])
        file.create_dataset("history/0", shape=(1 << 36,), dtype="f4", chunks=(1 << 20,))
    refused(small_tools, "inspect", "x.solverstate.h5", said="are stored")


def test_many_compressed_hdf5_arrays_share_one_allowance(refused):
    with h5py.File("x.caffemodel.h5", "w") as file:
        for index in range(20):  # 64 MiB each, nothing of it written
            file.create_dataset(f"data/conv1/{index}", shape=(1 << 24,), dtype="f4", chunks=(1 << 24,), compression=4)
    refused(small_tools, "inspect", "x.caffemodel.h5", said="compressed arrays take")


@pytest.mark.parametrize(
    ("iteration", "history", "said"),
    [
        (np.array([], "i4"), {}, "not one whole number"),
        (np.dtype("i4"), {}, "is a type"),
        (np.array([1]), np.zeros(3), "history is a dataset"),
        (np.array([1]), {"7": np.zeros(3)}, "history without 0"),
    ],
    ids=["no iteration", "a type", "dataset", "gap"],
)
def test_hdf5_solver_state_laid_out_otherwise(refused, iteration, history, said):
    with h5py.File("x.solverstate.h5", "w") as file:
        file["iter"] = iteration
        if isinstance(history, dict):
            group = file.create_group("history")
            for name, values in history.items():
                group[name] = values
        else:
            file["history"] = history
    refused(small_tools, "inspect", "x.solverstate.h5", said=said)


def test_mean_files(tmp_path):
    (tmp_path / "folder.binaryproto").mkdir()
    with pytest.raises(MissingFileError, match="is a folder"):
        load_mean(tmp_path / "folder.binaryproto")
    blob = BlobProto(num=-1, channels=-1, height=1, width=1, data=[1.0])
    (tmp_path / "x.binaryproto").write_bytes(blob.SerializeToString())
    with pytest.raises(FormatError, match="damaged"):
        load_mean(tmp_path / "x.binaryproto")


class Calling:
    """Pickled, it calls something when it is loaded."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(refused, tmp_path, zipped):
    torch.save({"format": "caffe-segnet", "x": Calling(os.mkdir, "executed")}, "x.pt",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    refused(torch2caffe, "x.pt", said="mkdir")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_takes_memory(refused, zipped):
    torch.save({"x": Calling(bytearray, 1 << 40)}, "x.pt", _use_new_zipfile_serialization=zipped)
    refused(torch2caffe, "x.pt", said="bytearray")


def test_damaged_files_of_every_kind(tmp_path):
    """Read in a process of its own, which a crash ends and whose memory can be measured."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.converters.mutations", str(tmp_path), "300"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    *kinds, grown = (line.rsplit(" ", 1) for line in done.stdout.splitlines()[1:])
    assert [name for name, _ in kinds] == list(mutations.READERS)
    assert all(0 < int(refused) <= 300 for _, refused in kinds), kinds
    assert grown[0] == "MiB" and int(grown[1]) < 64  # for files of some kB


def test_a_solver_state_whose_lengths_lie(refused, tmp_path):
    for blob, said in ((tag(5, LENGTH) + varint(1 << 31) + b"1234", "damaged"), (shape(1 << 40), "asks for")):
        (tmp_path / "x.solverstate").write_bytes(tag(1, VARINT) + varint(7) + field(3, blob))
        refused(small_tools, "inspect", "x.solverstate", said=said)


def test_a_record_whose_arrays_claim_too_much(refused):
    header = np.lib.format.magic(1, 0)
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 40},), }}"
    header += (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n"
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("meta.npy", header)
    assert parity(["x.npz"]) == 2
    with zipfile.ZipFile("x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.npy", header + bytes(1 << 20))
    with pytest.raises(FormatError, match="which it does not"):
        read_record("x.npz")


def test_many_problems_are_not_all_told(refused, tmp_path):
    (tmp_path / "x.prototxt").write_text("layer {\n" * 5000)
    with pytest.raises(FormatError) as raised:
        read_net(tmp_path / "x.prototxt")
    assert len(raised.value.problems) == 5000 and len(str(raised.value).splitlines()) == 1002


def test_zip_bomb(refused):
    caffe2torch(["net.prototxt", "--output", "good.pt"])
    with zipfile.ZipFile("good.pt") as good, zipfile.ZipFile("x.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
        bomb.writestr("good/data/99", bytes(1 << 24))
    refused(torch2caffe, "x.pt", said="torch writes them unpacked")


def test_damaged_pt(refused, tmp_path):
    caffe2torch(["net.prototxt", "--output", "good.pt"])
    whole = (tmp_path / "good.pt").read_bytes()
    numbers = np.random.default_rng(0)
    for length in numbers.integers(0, len(whole), 20):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        refused(torch2caffe, "x.pt", said="expected a .pt" if length > 3 else "x.pt: ")


def test_pt_with_weights_of_another_net(refused):
    caffe2torch(["net.prototxt", "--output", "good.pt"])
    content = torch.load("good.pt", weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, "x.pt")
    refused(torch2caffe, "x.pt", said="not those of its net")
    del content["prototxt"]
    torch.save(content, "x.pt")
    refused(torch2caffe, "x.pt", said="prototxt is wrong or missing")


def test_a_net_larger_than_the_machine():
    text = AUTOENCODER.replace("num_output: 4", "num_output: 2000000000", 1)
    assert text != AUTOENCODER
    with pytest.raises(NetError, match="this machine has"):
        caffe.Net(parse_net(text), caffe.TEST)


def test_weights_that_are_no_numbers_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    net = caffe.Net("net.prototxt", caffe.TEST)
    next(iter(net.params.values()))[0].data.flat[0] = np.nan
    net.save("x.caffemodel")
    assert caffe2torch(["net.prototxt", "--weights", "x.caffemodel"]) == 0
    assert "1 NaN" in capsys.readouterr().out
