"""At what scale images would have to be fed to have the deviation that a net's statistics keep from its training.

The first batch normalisation keeps the deviation that its bottom had. Pictures with the statistics of natural images
are sent there through the layers before it, and the scale is looked for at which they have that deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from caffe_compat.data.transform import Transform
from caffe_compat.graph import Graph, Node
from caffe_compat.net import Net
from caffe_compat.shapes import Shape
from converters.bn_scales import scales_are_merged
from converters.textures import textures
from prototxt.caffe_pb2 import TEST, BNParameter, NetParameter, TransformationParameter
from prototxt.weights import LayerWeights

#: Blur in pixels and correlation of colours, of sharp and colourful pictures and of soft and nearly grey ones.
_KINDS = ((0.0, 0.95), (3.0, 0.99))
#: The middle half of the channels must ask for scales within this factor, or the statistics are of other pictures.
_AGREE = 4.0
#: A scale is found when it gives the deviation within this factor, if it is in so many steps: LRN is not linear, and on
#: large values it may never give a deviation exactly that a learnt factor of BN has moved.
_MET, _STEPS = 2.0, 8

_NORMALISERS = ("BN", "BatchNorm")
#: What may stand before the statistics, beside one convolution: layers that follow the scale of their bottom, take any
#: size and draw nothing.
_FOLLOWED = ("Bias", "Concat", "LRN", "Pooling", "Power", "PReLU", "ReLU", "Scale", "Split")


class Fit(NamedTuple):
    """What the statistics of a layer say of the values that are fed."""

    factors: list[float]
    """Times the values fed, they give the deviation of the training; one for each kind of pictures that can."""
    told: str
    """The layer of the statistics, for messages."""


def fit_scale(
    graph: Graph, image: str, stored: Mapping[str, LayerWeights], transform: TransformationParameter
) -> Fit | None:
    """By what transformed pictures of 0 to 255 would have to be multiplied to give the deviation of the training.

    Args:
        graph: the net's.
        image: the blob that is fed, (N, C, H, W) with 1 or 3 channels.
        stored: the weights by layer name.
        transform: what is done to the pictures; crop and mirror play no part.

    Returns:
        None where it cannot be told: other images, no statistics, several convolutions or unknown layers before them,
        weights that do not fit the layers, channels that contradict each other whatever the pictures.

    Raises:
        LayerError: the transform contradicts itself or does not fit the channels.
    """
    shape = graph.blobs[image]
    front = _front(graph, image) if _is_image(shape) else []
    deviations = _trained_deviations(graph, front[-1], stored) if front else None
    net = _net_of(graph, front[:-1], image, stored) if deviations is not None else None
    if net is None:
        return None
    factors = []
    for blur, correlation in _KINDS:
        fed = _transformed(textures(*shape[1:], blur, correlation), transform)
        factors += _factor(net, front[-1].bottoms[0], fed, deviations)
    told = f"layer {front[-1].layer.name!r} ({front[-1].layer.type})"
    return Fit(factors, told) if factors else None


def _factor(net: Net, blob: str, fed: torch.Tensor, deviations: np.ndarray) -> list[float]:
    """The factor on what is fed, (N, C, H, W), at which a blob has these deviations (C,); empty where none does."""
    factor = 1.0
    for _ in range(_STEPS):
        with torch.no_grad():
            reached = net(fed * factor)[blob].double().std(dim=(0, 2, 3)).numpy()
        with np.errstate(all="ignore"):
            ratios = reached / deviations
        usable = ratios[np.isfinite(ratios) & (ratios > 0)]
        if 2 * usable.size < ratios.size:
            return []
        low, middle, high = np.quantile(usable, (0.25, 0.5, 0.75))
        if 1 / _MET < middle < _MET:
            return [factor] if high < _AGREE * low else []
        factor /= middle
    return []


def _is_image(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1] in (1, 3) and min(shape) > 0


def _front(graph: Graph, image: str) -> list[Node]:
    """The layers on the way from an image to the first statistics, and the one of these; empty where there is none."""
    carried, convolved = {image}, set()
    front = []
    for node in (node for node in graph.nodes if node.bottoms):
        reads_all = carried.issuperset(node.bottoms)
        after_convolution = not convolved.isdisjoint(node.bottoms)
        first_convolution = node.layer.type == "Convolution" and not after_convolution
        if reads_all and node.layer.type in _NORMALISERS:
            return [*front, node]
        if not reads_all or not (first_convolution or node.layer.type in _FOLLOWED):
            carried.difference_update(node.tops)  # something else is in them now, where they are written in place
            continue
        front.append(node)
        carried.update(node.tops)
        if first_convolution or after_convolution:
            convolved.update(node.tops)
    return []


def _trained_deviations(graph: Graph, node: Node, stored: Mapping[str, LayerWeights]) -> np.ndarray | None:
    """The deviation (C,) of each channel of a normaliser's bottom in the training, from its statistics.

    SegNet's BN has them merged into its scales, as a factor beside what was learnt, which stays near 1.
    """
    if node.layer.name not in stored or any(blob is None for blob in stored[node.layer.name].blobs):
        return None
    blobs = [blob.data.astype(np.float64).ravel() for blob in stored[node.layer.name].blobs]
    message = node.message
    with np.errstate(all="ignore"):  # what is not finite is left out later
        if message.type == "BN" and len(blobs) == 2 and message.bn_param.bn_mode == BNParameter.INFERENCE:
            names = [other.layer.name for other in graph.nodes if other.layer.type == "BN"]
            merged = scales_are_merged([stored[name] for name in names if name in stored])
            return 1 / np.abs(blobs[0]) if merged else None
        if message.type == "BatchNorm" and len(blobs) == 3:
            param = message.batch_norm_param
            by_batch = param.HasField("use_global_stats") and not param.use_global_stats
            return None if by_batch else np.sqrt(blobs[1] / blobs[2])
    return None


def _net_of(graph: Graph, nodes: Sequence[Node], image: str, stored: Mapping[str, LayerWeights]) -> Net | None:
    """These layers as a net of their own, with their weights; None where these do not fit."""
    message = NetParameter(input=[image], layer=[node.message for node in nodes])
    message.input_shape.add(dim=graph.blobs[image])
    net = Net(message, graph.context.phase, level=graph.level, stages=graph.stages, dialect=graph.dialect, fill=False)
    for node in net.graph.nodes:
        blobs = stored[node.layer.name].blobs if node.layer.name in stored else []
        if len(blobs) != len(node.layer.blobs):
            return None
        for blob, values in zip(node.layer.blobs, blobs, strict=True):
            if values is None or not values.shape_matches(blob.shape):
                return None
            blob.data[...] = values.data.reshape(blob.shape)
    return net


def _transformed(pictures: np.ndarray, param: TransformationParameter) -> torch.Tensor:
    """Pictures (N, H, W, C) as a data layer feeds them, (N, C, H, W). A mean file is left out: it moves no deviation.

    Raises LayerError.
    """
    values = TransformationParameter()
    values.CopyFrom(param)
    values.crop_size, values.mirror = 0, False
    transform, rng = Transform(values, TEST), np.random.default_rng(0)
    return torch.from_numpy(np.stack([transform(picture, rng) for picture in pictures]))
