"""A model file of any kind as a text for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from tabulate import tabulate

from prototxt.caffemodel import read_blobproto
from prototxt.errors import FormatError
from prototxt.net_file import read_net, read_solver
from prototxt.solverstate import read_solverstate
from prototxt.weights_h5 import H5Weights, read_weights

_HUGE = 1e4  # weights beyond it belong to a training that has gone wrong

_OF_ARRAYS = ("shape", "mean", "deviation", "min", "max", "remarks")

PathName = str | os.PathLike[str]


def describe(path: PathName) -> str:
    """What a file holds, told by its name's ending, and by its content where the ending is another.

    Raises:
        MissingFileError: it is not there; FormatError: it is none of these, or damaged.
    """
    name = Path(path).name
    if name.endswith((".prototxt", ".pbtxt", ".prototxt.txt")):
        return _text(path)
    if ".solverstate" in name:
        return _state(path)
    if name.endswith(".binaryproto"):
        return f"mean image, {_row('mean', read_blobproto(path))}"
    return _weights(path)


def remarks(values: np.ndarray, kind: str = "") -> str:
    """What looks wrong in an array of weights of a type of layer; empty where nothing does."""
    if not values.size:
        return "empty"
    found = [
        f"{count} {what}" for what, count in (("NaN", np.isnan(values).sum()), ("inf", np.isinf(values).sum())) if count
    ]
    finite = values[np.isfinite(values)]
    is_sum = kind == "BatchNorm"  # of variances, over many passes
    if finite.size and np.abs(finite).max() > _HUGE and not is_sum:
        found.append(f"up to {np.abs(finite).max():.3g}")
    if values.size > 1 and not found and not values.any():
        found.append("all zero")
    elif values.size > 1 and not found and (values == values.flat[0]).all():
        found.append(f"all {values.flat[0]:.4g}")
    return ", ".join(found)


def _statistics(values: np.ndarray) -> list[str]:
    if not values.size:
        return ["", "", "", ""]
    with np.errstate(all="ignore"):
        numbers = (values.mean(dtype=np.float64), values.std(dtype=np.float64), values.min(), values.max())
    return [f"{number:.4g}" for number in numbers]


def _row(name: str, values: np.ndarray) -> str:
    mean, deviation, least, most = _statistics(values)
    told = remarks(values)
    shape = "×".join(map(str, values.shape)) or "scalar"
    return f"{name} {shape}: mean {mean}, deviation {deviation}, {least} to {most}" + (f" ({told})" if told else "")


def _weights(path: PathName) -> str:
    stored = read_weights(path)
    rows: list[Sequence[str]] = []
    count = 0
    for layer in stored.layers:
        for index, blob in enumerate(layer.blobs):
            if blob is None:
                continue
            values = blob.data
            count += values.size
            first = [layer.name, layer.type] if not index else ["", ""]
            rows.append(
                [*first, "×".join(map(str, blob.shape)) or "scalar", *_statistics(values), remarks(values, layer.type)]
            )
    if isinstance(stored, H5Weights):
        head = "weights in HDF5"
    else:
        head = f"weights in {stored.dialect}, generation {stored.generation}, net {stored.header.name!r}"
    table = tabulate(
        rows, ["layer", "type", "shape", "mean", "deviation", "min", "max", "remarks"], disable_numparse=True
    )
    return f"{head}: {len(stored.layers)} layers, {count:,} values\n{table}"


def _state(path: PathName) -> str:
    state = read_solverstate(path)
    kind = "HDF5" if h5py.is_hdf5(path) else "binary"
    head = f"solver state ({kind}) of iteration {state.iteration}, step {state.current_step}"
    rows = [
        [str(i), "×".join(map(str, values.shape)), *_statistics(values), remarks(values)]
        for i, values in enumerate(state.history)
    ]
    return f"{head}, weights {state.learned_net!r}\n{_table(rows, 'history', *_OF_ARRAYS)}"


def _text(path: PathName) -> str:
    try:
        file = read_net(path)
    except FormatError as as_net:
        try:
            solver = read_solver(path)
        except FormatError:
            raise as_net from None
        rate = f"rate {solver.base_lr:g}, policy {solver.lr_policy}"
        return f"solver {solver.type}, {rate}, {solver.max_iter} iterations, net {solver.net!r}"
    told = "as its text gives away" if file.evidence else "assumed, its text gives none away"
    rows = [
        [str(line or ""), layer.name, layer.type, ", ".join(layer.bottom), ", ".join(layer.top)]
        for layer, line in zip(file.message.layer, file.lines, strict=True)
    ]
    inputs = ", ".join(file.message.input)
    head = f"net {file.message.name!r}, dialect {file.dialect} ({told}), {len(rows)} layers" + (
        f", inputs {inputs}" if inputs else ""
    )
    return f"{head}\n{_table(rows, 'line', 'layer', 'type', 'bottoms', 'tops')}"


def _table(rows: Sequence[Sequence[str]], *headers: str) -> str:
    return tabulate(rows, headers, disable_numparse=True)
