"""Weights by layer name, from files into a net and back (Caffe: CopyTrainedLayersFrom, ToProto)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from caffe_compat.blob import ParamBlob
from caffe_compat.errors import NetError
from caffe_compat.graph import Graph, Node
from prototxt.blobs import BlobArray
from prototxt.caffe_pb2 import NetParameter
from prototxt.caffemodel import new_caffemodel
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import H5Weights, read_weights, write_weights_h5

log = logging.getLogger(__name__)


@dataclass
class LoadReport:
    """Which layers the weights went to."""

    matched: list[str]
    only_in_file: list[str]
    """Layers with weights for which the net has no layer of that name."""
    only_in_net: list[str]
    """Layers of the net that keep what their fillers gave."""
    blobs: list[ParamBlob] = field(default_factory=list, repr=False)
    """The parameters that took values from the file."""

    def describe(self, weights: str | PathLike[str]) -> str:
        """A few lines for people."""
        total = len(self.matched) + len(self.only_in_net)
        lines = [f"weights: {len(self.matched)} of {total} layers matched by name in {weights}"]
        if self.only_in_net:
            lines.append(f"  not in the file, left as the fillers made them: {', '.join(self.only_in_net)}")
        if self.only_in_file:
            lines.append(f"  not in the net, left out: {', '.join(self.only_in_file)}")
        return "\n".join(lines)


def load_weights(graph: Graph, path: str | PathLike[str]) -> LoadReport:
    """Copy weights into the layers of the same names; of several layers of one name the first gets them (Caffe).

    Raises:
        FormatError: the file cannot be read; MissingFileError: it is not there.
        NetError: blobs of another number or shape, all of them; nothing was copied then.
    """
    weights = read_weights(path)
    in_hdf5 = isinstance(weights, H5Weights)
    nodes = graph.nodes if in_hdf5 else reversed(graph.nodes)
    targets = {node.layer.name: node for node in nodes}  # of several layers of one name HDF5 fills the last (Caffe)
    problems: list[str] = []
    copies = []
    matched: list[str] = []
    only_in_file: list[str] = []
    for source in weights.layers:
        node = targets.get(source.name)
        if node is None:
            only_in_file += [source.name] if source.blobs else []
            continue
        blobs, stored_blobs = node.layer.blobs, source.blobs
        if in_hdf5:  # parameters that are shared with an earlier layer are left out
            stored_blobs = stored_blobs + [None] * (len(blobs) - len(stored_blobs))
        if len(blobs) != len(stored_blobs):
            problems.append(f"{node.where}: {len(stored_blobs)} blobs in {path}; expected {len(blobs)}")
            continue
        for i, (blob, stored) in enumerate(zip(blobs, stored_blobs, strict=True)):
            if stored is None:
                if node.params[i].owner is None:
                    problems.append(f"{node.where}: blob {i} is not in {path}; expected {blob.shape}")
            elif stored.shape_matches(blob.shape):
                copies.append((blob, stored))
            else:
                problems.append(f"{node.where}: blob {i} has the shape {stored.shape} in {path}; expected {blob.shape}")
        matched += [source.name] if blobs else []
    if problems:
        remedy = "Weights of another shape belong to another net: mend the prototxt, or rename these layers in it"
        raise NetError(problems, remedy)
    for blob, stored in copies:
        np.copyto(blob.data, stored.data.reshape(blob.shape), casting="same_kind")
        if stored.diff is not None:
            np.copyto(blob.diff, stored.diff.reshape(blob.shape), casting="same_kind")
    found = set(matched)
    only_in_net = [node.layer.name for node in graph.nodes if node.layer.blobs and node.layer.name not in found]
    return LoadReport(matched, only_in_file, only_in_net, [blob for blob, _ in copies])


def log_report(report: LoadReport, path: str | PathLike[str]) -> None:
    """Log what matched; as a warning when something did not."""
    level = logging.WARNING if report.only_in_net or report.only_in_file else logging.INFO
    log.log(level, "%s", report.describe(path))


def share_weights(graph: Graph, other: Graph) -> None:
    """Give layers the parameters of another net's layers of the same names (Caffe: ShareTrainedLayersWith).

    Raises:
        NetError: blobs of another number or shape, all of them; nothing was shared then.
    """
    sources = {node.layer.name: node for node in reversed(other.nodes)}
    pairs = [(node, sources[node.layer.name]) for node in graph.nodes if node.layer.name in sources]
    problems = []
    for node, source in pairs:
        ours, theirs = ([blob.shape for blob in one.layer.blobs] for one in (node, source))
        if ours and ours != theirs:
            problems.append(f"{node.where}: parameters of the shapes {ours}; expected {theirs}, as in {source.where}")
    if problems:
        raise NetError(problems)
    for node, source in pairs:
        for param, blob, theirs in zip(node.params, node.layer.blobs, source.layer.blobs, strict=False):
            if param.owner is None:
                blob.parameter.data = theirs.parameter.data.view(blob.shape)


def save_weights(graph: Graph, path: str | PathLike[str], dialect: str | None = None, diff: bool = False) -> None:
    """Write a net and its weights as Caffe does (Net::ToProto, Net::ToHDF5); see ``Net.save``.

    A binary file holds every layer of the filtered net, splits included; of the inputs only the names. Parameters that
    layers share stand in each of them; in HDF5 only in the first. ``diff`` writes the gradients too.

    Raises:
        FormatError: with every field that the dialect does not know.
    """
    message = _as_caffe_writes_it(graph)
    if str(path).endswith(".h5"):
        nodes = zip(message.layer, graph.nodes, strict=True)
        layers = [LayerWeights(layer, _own_blobs(node, diff)) for layer, node in nodes]
        write_weights_h5(path, layers, diff)
        return
    blobs = {i: [_array(blob, diff) for blob in node.layer.blobs] for i, node in enumerate(graph.nodes)}
    new_caffemodel(message, blobs, dialect or graph.dialect).write(path)


def _as_caffe_writes_it(graph: Graph) -> NetParameter:
    held = graph.message
    message = NetParameter(name=held.name, input=held.input, layer=held.layer)
    for layer, node in zip(message.layer, graph.nodes, strict=True):
        if not layer.HasField("phase"):
            layer.phase = graph.context.phase
        if node.layer.is_loss and not layer.loss_weight:
            layer.loss_weight.append(1)
    return message


def _own_blobs(node: Node, diff: bool) -> list[BlobArray | None]:
    pairs = zip(node.params, node.layer.blobs, strict=True)
    return [_array(blob, diff) if param.owner is None else None for param, blob in pairs]


def _array(blob: ParamBlob, diff: bool) -> BlobArray:
    return BlobArray(blob.data, blob.diff if diff else None)
