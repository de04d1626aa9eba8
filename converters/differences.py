"""What differs between two model files of one kind."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from prototxt import text
from prototxt.caffe_pb2 import LayerParameter
from prototxt.net_file import read_net
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import read_weights

PathName = str | os.PathLike[str]


def compare(a: PathName, b: PathName) -> str:
    """The differences for people; empty where there are none. Prototxt files are told by their ending.

    Weights are compared by the names of their layers and by value, whatever dialect and format the files are in; nets
    as they are after upgrading, so that generations do not count.

    Raises:
        MissingFileError, FormatError: of the files.
    """
    if os.fspath(a).endswith("txt"):
        return _nets(a, b)
    return _weights(a, b)


def numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with how often it came before: names of layers need not be unique."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        result.append((name, seen[name]))
        seen[name] += 1
    return result


def _weights(a: PathName, b: PathName) -> str:
    layers = [[layer for layer in read_weights(path).layers if layer.blobs] for path in (a, b)]
    ours, theirs = (dict(zip(numbered([layer.name for layer in own]), own, strict=True)) for own in layers)
    rows = [[key[0], "only in A", ""] for key in ours if key not in theirs]
    rows += [[key[0], "only in B", ""] for key in theirs if key not in ours]
    for key in ours:
        if key in theirs:
            rows += _blobs(key[0], ours[key], theirs[key])
    return tabulate(rows, ["layer", "what", "largest deviation"], disable_numparse=True) if rows else ""


def _blobs(name: str, a: LayerWeights, b: LayerWeights) -> list[list[str]]:
    if len(a.blobs) != len(b.blobs):
        return [[name, f"{len(a.blobs)} blobs and {len(b.blobs)}", ""]]
    rows = []
    for i, (one, other) in enumerate(zip(a.blobs, b.blobs, strict=True)):
        if one is None or other is None:
            if one is not other:
                rows.append([name, f"blob {i} is shared in one of them", ""])
        elif tuple(d for d in one.shape if d != 1) != tuple(d for d in other.shape if d != 1):
            rows.append([name, f"blob {i}: {tuple(one.shape)} and {tuple(other.shape)}", ""])
        else:
            x, y = one.data.ravel(), other.data.ravel()
            unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
            if unequal.any():
                with np.errstate(invalid="ignore"):
                    worst = np.nanmax(np.abs(x[unequal].astype(np.float64) - y[unequal]))
                scale = max(float(np.nanmax(np.abs(x), initial=0)), 1e-30)
                told = f"{worst:.3g} ({worst / scale:.1e} of the largest)"
                rows.append([name, f"blob {i}: {unequal.sum():,} of {x.size:,} values", told])
    return rows


def _nets(a: PathName, b: PathName) -> str:
    lines = []
    for path in (a, b):
        net = read_net(path).message
        rest = type(net)()
        rest.CopyFrom(net)
        del rest.layer[:]
        lines.append([*text.format(rest).splitlines(), *(line for layer in net.layer for line in _lines(layer))])
    return "\n".join(difflib.unified_diff(*lines, str(a), str(b), lineterm="", n=2))


def _lines(layer: LayerParameter) -> list[str]:
    return ["layer {", *(f"  {line}" for line in text.format(layer).splitlines()), "}"]
