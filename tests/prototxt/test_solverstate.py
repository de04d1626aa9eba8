"""Solver states: those that Caffe wrote, read and written back; and files that are something else."""

import h5py
import numpy as np
import pytest

from prototxt import caffe_pb2
from prototxt.errors import FormatError, MissingFileError
from prototxt.solverstate import SolverState, read_solverstate, write_solverstate
from prototxt.wire import fields
from tests.recorded import GOLDEN

BINARY = sorted((GOLDEN / "solvers").glob("*/*.solverstate"))
HDF5 = sorted((GOLDEN / "solvers").glob("*/*.solverstate.h5"))


def test_states_are_there():
    assert len(BINARY) == 14 and len(HDF5) == 2


@pytest.mark.parametrize("path", BINARY, ids=lambda path: path.name)
def test_binary_state_comes_back_byte_for_byte(path, tmp_path):
    state = read_solverstate(path)
    assert state.iteration in (6, 12) and state.learned_net == path.name.replace("solverstate", "caffemodel")
    write_solverstate(tmp_path / "copy.solverstate", state)
    assert (tmp_path / "copy.solverstate").read_bytes() == path.read_bytes()


def contents(path):
    with h5py.File(path) as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item}))
        return {
            name: (item.id.get_type().get_class(), item.id.get_type().get_size(), item.shape, item[()].tobytes())
            for name, item in found.items()
            if isinstance(item, h5py.Dataset)
        }, file["learned_net"].id.get_type().get_strpad()


@pytest.mark.parametrize("path", HDF5, ids=lambda path: path.name)
def test_hdf5_state_comes_back_the_same(path, tmp_path):
    write_solverstate(tmp_path / "copy.solverstate.h5", read_solverstate(path))
    assert contents(tmp_path / "copy.solverstate.h5") == contents(path)


def test_old_history_with_four_axes(tmp_path):
    message = caffe_pb2.SolverState(iter=3, learned_net="x", current_step=2)
    message.history.add(num=1, channels=1, height=1, width=2, data=[1, 2])
    (tmp_path / "old.solverstate").write_bytes(message.SerializeToString())
    state = read_solverstate(tmp_path / "old.solverstate")
    assert (state.iteration, state.current_step) == (3, 2) and state.history[0].tolist() == [[[[1, 2]]]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>", "a web page"),
        (caffe_pb2.NetParameter(layer=[{"name": "a"}]).SerializeToString(), "give a .solverstate"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 12\n", "git-LFS pointer"),
    ],
)
def test_other_files(tmp_path, content, said):
    (tmp_path / "x.solverstate").write_bytes(content)
    with pytest.raises(FormatError, match=said):
        read_solverstate(tmp_path / "x.solverstate")


def test_cut_off_at_every_byte(tmp_path):
    write_solverstate(tmp_path / "x.solverstate", SolverState(300, "w.caffemodel", 0, [np.ones(3, np.float32)]))
    whole = (tmp_path / "x.solverstate").read_bytes()
    ends = {part.end for part in fields(memoryview(whole))}  # there a state is whole, if without history
    for length in set(range(len(whole))) - ends:
        (tmp_path / "x.solverstate").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_solverstate(tmp_path / "x.solverstate")


def test_missing_and_other_hdf5(tmp_path):
    with pytest.raises(MissingFileError):
        read_solverstate(tmp_path / "nothing")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(FormatError, match="HDF5 without iter and history"):
        read_solverstate(tmp_path / "x.h5")
