"""Weights and solver states from Caffe's binary format to HDF5 and back."""

from __future__ import annotations

from pathlib import Path

from converters.model_files import PathName, Write, write_all
from prototxt.caffe_pb2 import NetParameter
from prototxt.caffemodel import Caffemodel, new_caffemodel
from prototxt.errors import CaffeError, FormatError
from prototxt.solverstate import read_solverstate, write_solverstate, write_solverstate_h5
from prototxt.weights_h5 import H5Weights, read_weights, write_weights_h5

_DIALECT = "segnet"


def rewrite(source: PathName, target: PathName, dialect: str | None = None, force: bool = False) -> str:
    """Write a weights file or a solver state in the format that the target's name ends in; every value stays.

    Args:
        source: what to read, told by its content.
        target: ``NAME.caffemodel`` or ``NAME.solverstate``, with ``.h5`` after it for HDF5.
        dialect: of a binary target; by default that of a binary source, else segnet.
        force: replace an existing target.

    Returns:
        what was written, for people.

    Raises:
        CaffeError: the target is there already, or its name does not say what it shall be.
        FormatError: the source is of another kind, damaged, or cannot be said in the target's format.
        MissingFileError: the source is not there.
    """
    target = Path(target)
    name = target.name.removesuffix(".h5")
    if not name.endswith((".caffemodel", ".solverstate")):
        raise CaffeError(f"{target}: expected a name that ends in .caffemodel or .solverstate, or one of them and .h5")
    make = _weights if name.endswith(".caffemodel") else _state
    write, what = make(source, target.suffix == ".h5", dialect)
    write_all({target: write}, force)
    return f"wrote {target}: {what}"


def _state(source: PathName, to_h5: bool, dialect: str | None) -> tuple[Write, str]:
    state = read_solverstate(source)
    what = f"solver state of iteration {state.iteration}, {len(state.history)} arrays"
    if to_h5:
        return lambda path: write_solverstate_h5(path, state), what
    return lambda path: write_solverstate(path, state, dialect or _DIALECT), what


def _weights(source: PathName, to_h5: bool, dialect: str | None) -> tuple[Write, str]:
    stored = read_weights(source)
    what = f"weights of {sum(bool(layer.blobs) for layer in stored.layers)} layers"
    if to_h5:
        return lambda path: write_weights_h5(path, stored.layers), what
    model = _binary(stored, source) if isinstance(stored, H5Weights) else stored
    return lambda path: model.write(path, dialect), what


def _binary(stored: H5Weights, source: PathName) -> Caffemodel:
    """The layers that have blobs; Caffe leaves one without as it is, but not one that lacks some of its own."""
    layers = [layer for layer in stored.layers if layer.blobs]
    gaps = [
        f"{source}: layer {layer.name!r} is without blob {layer.blobs.index(None)}, which it shares with another one, "
        "HDF5 does not say which; load it into its net and save that: Net(prototxt, weights, phase).save(...)"
        for layer in layers
        if None in layer.blobs
    ]
    if gaps:
        raise FormatError(gaps)
    net = NetParameter(layer=[layer.message for layer in layers])
    return new_caffemodel(net, {i: layer.blobs for i, layer in enumerate(layers)}, _DIALECT)
