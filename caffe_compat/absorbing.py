"""Batch normalisation for inference, put into the weights of the layers around it: the same function, fewer layers.

BN with ``bn_mode: INFERENCE``, BatchNorm with its stored statistics, and Scale are y = factor x + offset, channel by
channel. What follows a convolution, a deconvolution or an inner product goes into its weights and bias; what stands
before a convolution goes into that one's, unless there is an offset and the convolution pads with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from caffe_compat.layer_kinds import LINEAR, linear_param
from prototxt.caffe_pb2 import BNParameter, ConvolutionParameter, LayerParameter, NetParameter

#: A layer with its blobs.
Weighted = tuple[LayerParameter, list[np.ndarray]]


class Affine(NamedTuple):
    """y = factor x + offset, each (C,) in float64."""

    factor: np.ndarray
    offset: np.ndarray


def absorb(
    net: NetParameter, blobs: Sequence[Sequence[np.ndarray]]
) -> tuple[NetParameter, list[list[np.ndarray]], list[str]]:
    """Fold every layer that can be folded.

    Args:
        net: of the current generation, for inference.
        blobs: of each layer, as a weights file has them; none where they are not known.

    Returns:
        The net, the blobs of each of its layers, and for people a line for each layer: where it went, or why it stays.
    """
    folded = NetParameter()
    folded.CopyFrom(net)
    layers: list[Weighted] = [(layer, list(own)) for layer, own in zip(folded.layer, blobs, strict=True)]
    told: list[str] = []
    index = 0
    while index < len(layers):
        affine = _affine(*layers[index])
        if affine is None:
            index += 1
            continue
        done = _into_the_one_before(layers, index, affine) or _into_the_one_after(layers, index, affine)
        name = layers[index][0].name
        told.append(f"{name}: {done or 'stays: no linear layer beside it that nothing else reads'}")
        if done:
            del layers[index]
        else:
            index += 1
    kept = [layer for layer, _ in layers]
    del folded.layer[:]
    folded.layer.extend(kept)
    return folded, [own for _, own in layers], told


def _affine(layer: LayerParameter, blobs: Sequence[np.ndarray]) -> Affine | None:
    """What a layer does to each channel, if it is nothing else."""
    values = [blob.astype(np.float64).ravel() for blob in blobs]
    if len(layer.bottom) != 1 or len(layer.top) != 1 or not values or layer.include or layer.exclude:
        return None
    if layer.type == "BN" and layer.bn_param.bn_mode == BNParameter.INFERENCE:
        return Affine(*values)
    if layer.type == "Scale" and (layer.scale_param.axis, layer.scale_param.num_axes) == (1, 1):
        return Affine(values[0], values[1] if len(values) > 1 else np.zeros_like(values[0]))
    if layer.type == "BatchNorm":
        param = layer.batch_norm_param
        if param.HasField("use_global_stats") and not param.use_global_stats:
            return None
        weight = values[2].item()
        mean, variance = (value * (1 / weight if weight else 0.0) for value in values[:2])
        factor = 1 / np.sqrt(variance + param.eps)
        return Affine(factor, -mean * factor)
    return None


def _readers(layers: Sequence[Weighted], blob: str, after: int) -> list[int]:
    """The layers that read a blob as it is after a layer, up to the one that writes over it."""
    found = []
    for i in range(after + 1, len(layers)):
        layer = layers[i][0]
        if blob in layer.bottom:
            found.append(i)
        if blob in layer.top:
            break
    return found


def _maker(layers: Sequence[Weighted], blob: str, before: int) -> int | None:
    """The last layer before another that writes a blob."""
    return next((i for i in range(before - 1, -1, -1) if blob in layers[i][0].top), None)


def _is_free(layer: LayerParameter, blobs: Sequence[np.ndarray]) -> bool:
    """Whether a linear layer's weights are there, its own alone, in every state, and its outputs are channels."""
    if layer.type not in LINEAR or not blobs or len(layer.top) != 1 or layer.include or layer.exclude:
        return False
    return linear_param(layer).axis == 1 and not any(param.name for param in layer.param)


def _into_the_one_before(layers: list[Weighted], index: int, affine: Affine) -> str:
    layer = layers[index][0]
    at = _maker(layers, layer.bottom[0], index)
    if at is None or not _is_free(*layers[at]) or _readers(layers, layer.bottom[0], at) != [index]:
        return ""
    linear, blobs = layers[at]
    outputs = linear_param(linear).num_output
    if outputs != affine.factor.size:
        return ""
    weight = blobs[0].astype(np.float64)
    if linear.type == "Deconvolution":  # (inputs, outputs / group, ...)
        group = linear.convolution_param.group
        factor = affine.factor.reshape(group, 1, -1, *(1,) * (weight.ndim - 2))
        weight = (weight.reshape(group, -1, *weight.shape[1:]) * factor).reshape(weight.shape)
    elif linear.type == "InnerProduct" and linear.inner_product_param.transpose:
        weight = weight * affine.factor
    else:
        weight = weight * affine.factor.reshape(-1, *(1,) * (weight.ndim - 1))
    bias = blobs[1].astype(np.float64) if len(blobs) > 1 else np.zeros(outputs)
    offset = bias.ravel() * affine.factor + affine.offset
    _put(layers, at, weight, offset.reshape(bias.shape))
    linear.top[0] = layer.top[0]
    return f"into {linear.name} before it"


def _into_the_one_after(layers: list[Weighted], index: int, affine: Affine) -> str:
    layer = layers[index][0]
    readers = _readers(layers, layer.top[0], index)
    if len(readers) != 1 or (layer.top[0] != layer.bottom[0] and layer.bottom[0] in _written_later(layers, index)):
        return ""
    at = readers[0]
    linear, blobs = layers[at]
    if linear.type != "Convolution" or not _is_free(linear, blobs) or len(linear.bottom) != 1:
        return ""
    if affine.offset.any() and _is_padded(linear.convolution_param):
        return ""  # beyond the edge there are zeros, not offsets
    weight = blobs[0].astype(np.float64)
    group = linear.convolution_param.group
    if weight.shape[1] * group != affine.factor.size:
        return ""
    spread = (group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
    by_group = weight.reshape(group, -1, *weight.shape[1:])
    added = (by_group * affine.offset.reshape(spread)).reshape(weight.shape).reshape(weight.shape[0], -1).sum(axis=1)
    bias = blobs[1].astype(np.float64) if len(blobs) > 1 else np.zeros(weight.shape[0])
    _put(layers, at, (by_group * affine.factor.reshape(spread)).reshape(weight.shape), bias + added.reshape(bias.shape))
    linear.bottom[0] = layer.bottom[0]
    return f"into {linear.name} after it"


def _written_later(layers: Sequence[Weighted], index: int) -> set[str]:
    return {top for layer, _ in layers[index + 1 :] for top in layer.top}


def _is_padded(param: ConvolutionParameter) -> bool:
    return any(param.pad) or bool(param.pad_h or param.pad_w)


def _put(layers: list[Weighted], at: int, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a linear layer new weights, and a bias, which it now has."""
    linear = layers[at][0]
    linear_param(linear).ClearField("bias_term")
    layers[at] = (linear, [weight.astype(np.float32), bias.astype(np.float32)])
