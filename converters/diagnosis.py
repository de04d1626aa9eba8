"""What is wrong between a net and its weights, for those whose outputs are black, of one colour or random."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from caffe_compat.errors import NetError
from caffe_compat.graph import Node
from caffe_compat.layer_kinds import LINEAR
from caffe_compat.net import Net
from converters.bn_scales import scales_are_merged
from converters.class_count import set_classes
from converters.input_range import expected_ranges, wrong_ranges
from converters.inspection import remarks
from prototxt.caffe_pb2 import TEST, BNParameter
from prototxt.errors import nearest
from prototxt.net_file import NetFile
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import read_weights


class Diagnosis(NamedTuple):
    """What there is to say about a net and its weights, a line each."""

    wrong: list[str]
    """What does not go together."""
    remarks: list[str]
    """What is good to know and no fault: the range of values that an input expects."""


def diagnose(file: NetFile, weights: str | os.PathLike[str], phase: int = TEST) -> list[str]:
    """What ``examine`` finds wrong. Raises as it."""
    return examine(file, weights, phase).wrong


def examine(file: NetFile, weights: str | os.PathLike[str], phase: int = TEST) -> Diagnosis:
    """Look at names, shapes, class counts, batch normalisation, strange values and the range of the input.

    Raises:
        NetError: the net cannot be built; FormatError, MissingFileError: the weights cannot be read.
    """
    graph = Net(file, phase).graph
    nodes = {node.layer.name: node for node in graph.nodes}
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
    found += wrong_ranges(graph, stored)
    return Diagnosis(found, list(expected_ranges(graph, stored)))


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
    Then the scales tell.
    """
    if any(layer.message.bn_param.bn_mode == BNParameter.INFERENCE for layer in layers):
        return True
    return scales_are_merged(layers)


def _no_statistics(node: Node, layer: LayerWeights) -> Iterator[str]:
    if node.layer.message.type == "BatchNorm" and len(layer.blobs) == 3:
        count = layer.blobs[2]
        if count is not None and not count.data.any():
            yield f"{node.where}: its weights hold no statistics (the third blob is 0); no training has gathered any"


def _values(node: Node, layer: LayerWeights) -> Iterator[str]:
    for i, blob in enumerate(layer.blobs):
        said = remarks(blob.data, node.message.type) if blob is not None else ""
        is_kernel = i == 0 and node.layer.message.type in LINEAR  # others, and biases, may well be constant
        if said and (is_kernel or not said.startswith("all ")):
            yield f"{node.where}: blob {i}: {said}"
