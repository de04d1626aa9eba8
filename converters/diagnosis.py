"""What is wrong between a net and its weights, for those whose outputs are black, of one colour or random."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from caffe_compat.errors import NetError
from caffe_compat.graph import Node
from caffe_compat.layer_kinds import LINEAR
from caffe_compat.net import Net
from converters.class_count import set_classes
from converters.inspection import remarks
from prototxt.caffe_pb2 import TEST, BNParameter
from prototxt.errors import nearest
from prototxt.net_file import NetFile
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import read_weights

#: How far apart the layers' scales are, and in how many layers, to tell statistics from a training.
_TOGETHER, _APART, _ENOUGH = 2, 4, 3


def diagnose(file: NetFile, weights: str | os.PathLike[str], phase: int = TEST) -> list[str]:
    """Everything that looks wrong, a line each: names, shapes, class counts, batch normalisation, strange values.

    Raises:
        NetError: the net cannot be built; FormatError, MissingFileError: the weights cannot be read.
    """
    nodes = {node.layer.name: node for node in Net(file, phase).graph.nodes}
    stored = {layer.name: layer for layer in read_weights(weights).layers}
    try:
        classifiers = set_classes(file, 1)[1]
    except NetError:  # scores of several kinds, or none
        classifiers = set()
    found = [*_names(nodes, stored), *_bn_mode(nodes, stored)]
    for name, node in nodes.items():
        if name in stored:
            found += _shapes(node, stored[name], name in classifiers)
            found += _no_statistics(node, stored[name])
            found += _values(node, stored[name])
    return found


def _names(nodes: Mapping[str, Node], stored: Mapping[str, LayerWeights]) -> Iterator[str]:
    spare = [name for name, layer in stored.items() if layer.blobs and name not in nodes]
    for name, node in nodes.items():
        if node.layer.blobs and name not in stored:
            yield f"{node.where}: not in the weights, left as its fillers make it. {nearest(name, spare)}".rstrip()
    for name in spare:
        yield f"weights of {name!r}: the net has no such layer"


def _shapes(node: Node, layer: LayerWeights, classifies: bool) -> Iterator[str]:
    blobs = [blob for blob in layer.blobs if blob is not None]
    if len(blobs) != len(node.layer.blobs):
        yield f"{node.where}: {len(blobs)} blobs in the weights; expected {len(node.layer.blobs)}"
        return
    for i, (blob, expected) in enumerate(zip(blobs, node.layer.blobs, strict=True)):
        if blob.shape_matches(expected.shape):
            continue
        if classifies and i == 0 and tuple(blob.shape[1:]) == tuple(expected.shape[1:]):
            yield (
                f"{node.where}: the weights are of {blob.shape[0]} classes, the net has {expected.shape[0]}; "
                "`python -m converters set-classes` changes the net"
            )
            return
        yield f"{node.where}: blob {i} has the shape {tuple(blob.shape)} in the weights; expected {expected.shape}"


def _bn_mode(nodes: Mapping[str, Node], stored: Mapping[str, LayerWeights]) -> Iterator[str]:
    """SegNet's BN: whether statistics are in the weights, against what the net takes for granted."""
    pairs = [(node, stored[name]) for name, node in nodes.items() if node.layer.message.type == "BN" and name in stored]
    merged = _has_statistics([layer for _, layer in pairs])
    modes = {node.layer.message.bn_param.bn_mode for node, _ in pairs}
    if modes == {BNParameter.INFERENCE} and merged is False:
        yield (
            f"{pairs[0][0].where} and the other BN layers: bn_mode INFERENCE, but the weights look like a training's; "
            "`python -m segnet.bn_statistics` merges the statistics in"
        )
    elif modes == {BNParameter.LEARN} and merged:
        yield (
            f"{pairs[0][0].where} and the other BN layers: bn_mode LEARN, but the weights have statistics merged in; "
            "expected bn_mode: INFERENCE"
        )


def _has_statistics(layers: Sequence[LayerWeights]) -> bool | None:
    """Whether BN layers' weights have statistics merged in; None where that cannot be told.

    The saved bn_mode tells it if it is INFERENCE; LEARN does not, as the tutorial's script saves with the training net.
    Then the scales tell. A training moves them together, from 1 on; divided by the deviations of their layers they are
    far apart (in the recorded SegNet-Basic the layers' medians are within a factor 1.1 before and 37 after).
    """
    if any(layer.message.bn_param.bn_mode == BNParameter.INFERENCE for layer in layers):
        return True
    medians = [float(np.median(np.abs(layer.blobs[0].data))) for layer in layers if layer.blobs and layer.blobs[0]]
    if len(medians) < _ENOUGH or not min(medians) > 0:
        return None
    spread = max(medians) / min(medians)
    return True if spread >= _APART else False if spread <= _TOGETHER else None


def _no_statistics(node: Node, layer: LayerWeights) -> Iterator[str]:
    if node.layer.message.type == "BatchNorm" and len(layer.blobs) == 3:
        count = layer.blobs[2]
        if count is not None and not count.data.any():
            yield f"{node.where}: its weights hold no statistics (the third blob is 0); no training has gathered any"


def _values(node: Node, layer: LayerWeights) -> Iterator[str]:
    for i, blob in enumerate(layer.blobs):
        said = remarks(blob.data) if blob is not None else ""
        is_kernel = i == 0 and node.layer.message.type in LINEAR  # others, and biases, may well be constant
        if said and (is_kernel or not said.startswith("all ")):
            yield f"{node.where}: blob {i}: {said}"
