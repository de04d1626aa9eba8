"""Weights by layer name, from files into a net and back (Caffe: CopyTrainedLayersFrom, ToProto)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from prototxt.weights_h5 import read_weights

from caffe_compat.errors import NetError

if TYPE_CHECKING:
    from caffe_compat.graph import Node
    from caffe_compat.pycaffe import PycaffeFace

log = logging.getLogger(__name__)


@dataclass
class LoadReport:
    """Which layers the weights went to."""

    matched: list[str]
    only_in_file: list[str]
    """Layers with weights for which the net has no layer of that name."""
    only_in_net: list[str]
    """Layers of the net that keep what their fillers gave."""

    def describe(self, weights: str | PathLike[str]) -> str:
        """A few lines for people."""
        total = len(self.matched) + len(self.only_in_net)
        lines = [f"weights: {len(self.matched)} of {total} layers matched by name in {weights}"]
        if self.only_in_net:
            lines.append(f"  not in the file, left as the fillers made them: {', '.join(self.only_in_net)}")
        if self.only_in_file:
            lines.append(f"  not in the net, left out: {', '.join(self.only_in_file)}")
        return "\n".join(lines)


def load_weights(net: PycaffeFace, path: str | PathLike[str]) -> LoadReport:
    """Copy weights into the layers of the same names; the first layer of a name gets them (Caffe).

    Raises:
        FormatError: the file cannot be read; MissingFileError: it is not there.
        NetError: blobs of another number or shape, all of them; nothing was copied then.
    """
    weights = read_weights(path)
    targets: dict[str, Node] = {}
    for node in net.graph.nodes:
        targets.setdefault(node.layer.name, node)
    problems: list[str] = []
    copies = []
    matched: list[str] = []
    only_in_file: list[str] = []
    for source in weights.layers:
        node = targets.get(source.name)
        if node is None:
            only_in_file += [source.name] if source.blobs else []
            continue
        blobs = node.layer.blobs
        if len(blobs) != len(source.blobs):
            problems.append(f"{node.where}: {len(source.blobs)} blobs in {path}; expected {len(blobs)}")
            continue
        for i, (blob, stored) in enumerate(zip(blobs, source.blobs, strict=True)):
            if stored.shape_matches(blob.shape):
                copies.append((blob, stored))
            else:
                problems.append(f"{node.where}: blob {i} has the shape {stored.shape} in {path}; expected {blob.shape}")
        matched += [source.name] if blobs else []
    if problems:
        raise NetError(
            [*problems, "weights of another shape belong to another net: mend the prototxt, or rename these layers"]
        )
    for blob, stored in copies:
        np.copyto(blob.data, stored.data.reshape(blob.shape), casting="same_kind")
        if stored.diff is not None:
            np.copyto(blob.diff, stored.diff.reshape(blob.shape), casting="same_kind")
    found = set(matched)
    only_in_net = [node.layer.name for node in net.graph.nodes if node.layer.blobs and node.layer.name not in found]
    return LoadReport(matched, only_in_file, only_in_net)


def log_report(report: LoadReport, path: str | PathLike[str]) -> None:
    """Log what matched; as a warning when something did not."""
    level = logging.WARNING if report.only_in_net or report.only_in_file else logging.INFO
    log.log(level, "%s", report.describe(path))


def save_weights(net: PycaffeFace, path: str | PathLike[str], dialect: str | None = None) -> None:
    """Write a net and its weights; see ``Net.save``."""
    raise NotImplementedError
