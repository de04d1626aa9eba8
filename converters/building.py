"""A net from the files that a command is given, and where its outcome goes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from caffe_compat import TEST, Net
from caffe_compat.tools.arguments import add_dialect, add_root, image_size, input_shape
from caffe_compat.weights import LoadReport, load_weights
from converters.inspection import remarks
from prototxt.errors import CaffeError
from prototxt.net_file import read_net


def add_net_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes to build a net beside its prototxt: weights, dialect, sizes, roots."""
    parser.add_argument(
        "--weights", metavar="FILE", help="a .caffemodel or .caffemodel.h5 (default: what the fillers give)"
    )
    add_dialect(parser)
    parser.add_argument("--input-size", type=image_size, metavar="HxW", help="height and width of the input")
    parser.add_argument(
        "--input-shape", type=input_shape, action="append", default=[], metavar="NAME=N,C,H,W",
        help="shape of one input, or of one top of a data layer (may be repeated)",
    )  # fmt: skip
    add_root(parser)


def build_net(
    path: str | PathLike[str],
    *,
    weights: str | None = None,
    phase: int = TEST,
    dialect: str | None = None,
    input_size: tuple[int, int] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    roots: Sequence[tuple[str, str]] = (),
) -> tuple[Net, LoadReport | None]:
    """A net with its weights, and what matched of them.

    Args:
        path: the prototxt.
        weights: the weights file; without it the fillers' values stay.
        phase: TRAIN or TEST.
        dialect: as for Net.
        input_size: (height, width) of every image input.
        input_shapes: as for Net.
        roots: as for Net.

    Raises:
        CaffeError: of the files or the net; the weights are another net's.
    """
    file = read_net(path, dialect)
    net = Net(file, phase, dialect=dialect, roots=roots, image_size=input_size, input_shapes=input_shapes, fill=False)
    report = load_weights(net.graph, weights) if weights else None
    net.fill_parameters(report.blobs if report else ())
    if report is not None and not report.matched:
        file_has, net_has = (", ".join([*names[:4], "…"]) for names in (report.only_in_file, report.only_in_net))
        raise CaffeError(
            f"{weights}: weights for {file_has}; expected some for layers of {path}: {net_has}. Give the weights "
            "of this net, or rename the layers in the prototxt"
        )
    return net, report


def target_problems(target: Path, force: bool, option: str = "--output") -> list[str]:
    """Why a file cannot be written, before anything long begins: it is there already, or its folder is not."""
    problems = []
    if target.exists() and not force:
        problems.append(f"{target}: exists already; expected a new name ({option}), or --force to replace it")
    if not target.parent.is_dir():
        problems.append(f"{target}: the folder {target.parent} does not exist; expected an existing one")
    return problems


def told_weights(report: LoadReport | None, weights: str | None) -> str:
    """For people: what matched of the weights."""
    if report is None:
        return "weights: untrained (what the fillers give); --weights FILE loads a caffemodel"
    return "\n".join([report.describe(weights), *(f"warning: {line}" for line in _not_finite(report))])


def _not_finite(report: LoadReport) -> list[str]:
    """A line for each parameter with NaN or infinite values, as a training that went wrong leaves them."""
    wrong = [(blob, remarks(blob.data)) for blob in report.blobs if not np.isfinite(blob.data).all()]
    return [f"weights of the shape {tuple(blob.shape)} hold {what}" for blob, what in wrong]
