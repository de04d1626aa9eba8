"""Solver states: how far a training is, and the solver's history, in Caffe's binary and HDF5 files.

The weights are in a file of their own, which the state names (``learned_net``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import h5py
import numpy as np

from prototxt.blobs import BlobArray
from prototxt.caffe_pb2 import SolverState as Message
from prototxt.errors import FormatError
from prototxt.files import map_file, replacing
from prototxt.h5_file import Met, members, opened, read_array
from prototxt.recognise import SOLVER_STATE, another_message, explain
from prototxt.wire import BrokenWire, Buffer, Piece, length_field, number_field, read_varint, walk

_WANTED = "a .solverstate or .solverstate.h5"
_NUMBER = {declared.name: declared.number for declared in Message.DESCRIPTOR.fields}


@dataclass
class SolverState:
    """Where a training stands.

    ``history`` has an array for each parameter, in the net's order; Adam and AdaDelta have a second one for each, after
    all the first ones (Caffe: SGDSolver::PreSolve, AdamSolver::AdamPreSolve).
    """

    iteration: int
    learned_net: str = ""
    """The path of the weights as it was written, relative to the folder that the training ran in."""
    current_step: int = 0
    """How many ``stepvalue``s of the policy ``multistep`` are past."""
    history: list[np.ndarray] = field(default_factory=list)


def read_solverstate(path: str | os.PathLike[str]) -> SolverState:
    """Read a state, binary or HDF5, told by the content. Arrays of a binary file are views on it.

    Raises:
        MissingFileError: it is not there. FormatError: it is something else, or damaged.
    """
    buffer = map_file(path)
    return _read_h5(path) if h5py.is_hdf5(path) else _parse(buffer, path)


def write_solverstate(path: str | os.PathLike[str], state: SolverState, dialect: str = "segnet") -> None:
    """Write a state, all of it or nothing; in HDF5 where the name ends in ``.h5``."""
    if os.fspath(path).endswith(".h5"):
        write_solverstate_h5(path, state)
        return
    pieces: list[Piece] = [number_field(_NUMBER["iter"], state.iteration)]
    pieces += length_field(_NUMBER["learned_net"], [state.learned_net.encode()])
    for values in state.history:
        pieces += length_field(_NUMBER["history"], BlobArray(values).pieces(dialect))
    pieces.append(number_field(_NUMBER["current_step"], state.current_step))
    with replacing(path) as draft, open(draft, "wb") as file:
        file.writelines(pieces)


def write_solverstate_h5(path: str | os.PathLike[str], state: SolverState) -> None:
    """Write a state in HDF5, all of it or nothing (Caffe: SGDSolver::SnapshotSolverStateToHDF5)."""
    with replacing(path) as draft, h5py.File(draft, "w") as file:
        for name, value in (("iter", state.iteration), ("current_step", state.current_step)):
            file.create_dataset(name, data=np.array([value], np.int32))
        _write_text(file, b"learned_net", state.learned_net.encode())
        group = file.create_group("history")
        for i, values in enumerate(state.history):
            group.create_dataset(str(i), data=values)


def _parse(buffer: Buffer, path: str | os.PathLike[str]) -> SolverState:
    found, broken = walk(buffer)
    if broken or another_message(found) != SOLVER_STATE:
        raise FormatError(f"{path}: {explain(buffer, found, broken, _WANTED)}")
    state = SolverState(0)
    try:
        for part in found:
            if part.number == _NUMBER["history"]:
                where = f"{path}: history {len(state.history)}"
                state.history.append(BlobArray.from_wire(buffer, part.body, part.end, where).data)
            elif part.number == _NUMBER["learned_net"]:
                state.learned_net = bytes(buffer[part.body : part.end]).decode()
            elif part.number == _NUMBER["iter"]:
                state.iteration = read_varint(buffer, part.body, part.end)[0]
            elif part.number == _NUMBER["current_step"]:
                state.current_step = read_varint(buffer, part.body, part.end)[0]
    except (BrokenWire, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: damaged: {error}; copy it again, or resume from an earlier one") from error
    return state


def _read_h5(path: str | os.PathLike[str]) -> SolverState:
    with opened(path, f"give {_WANTED}") as file:
        met = Met()
        found = dict(members(file, met))
        missing = [name for name in ("iter", "history") if name not in found]
        if missing:
            raise FormatError(f"{path}: HDF5 without {' and '.join(missing)}; give {_WANTED}")
        if not isinstance(found["history"], h5py.Group):
            raise FormatError(f"{path}: history is a dataset; expected a group of them; give {_WANTED}")
        history = dict(members(found["history"], met))
        gaps = [str(i) for i in range(len(history)) if not isinstance(history.get(str(i)), h5py.Dataset)]
        if gaps:
            raise FormatError(f"{path}: history without {', '.join(gaps[:5])}; expected 0, 1, ...; give {_WANTED}")
        name = read_array(found["learned_net"]) if "learned_net" in found else b""
        return SolverState(
            _number(found["iter"]),
            name.decode() if isinstance(name, bytes) else str(name),
            _number(found["current_step"]) if "current_step" in found else 0,
            [read_array(history[str(i)]) for i in range(len(history))],
        )


def _number(dataset: h5py.Group | h5py.Dataset) -> int:
    """The one value of a dataset. Raises FormatError for anything else."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != (1,) or dataset.dtype.kind not in "iu":
        raise FormatError(f"{dataset.file.filename}: {dataset.name} is not one whole number; give {_WANTED}")
    return int(read_array(dataset)[0])


def _write_text(file: h5py.File, name: bytes, value: bytes) -> None:
    """A text that ends with a zero byte, as C writes it; h5py's own would end with its last letter."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(value) + 1)
    dataset = h5py.h5d.create(file.id, name, kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(value, f"S{len(value) + 1}"), kind)
