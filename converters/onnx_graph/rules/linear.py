"""Convolution, Deconvolution, InnerProduct, Embed, Im2col."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer


def _over_planes(writer: Writer, place: Place, value: str, top: int, filtered: Callable[[str], str]) -> str:
    """Filter (N, C, *spatial); what stands before the channels is a batch."""
    axis = place.layer.axis
    if axis == 1:
        return filtered(value)
    items = math.prod(dim for dim in place.node.bottom_shapes[0][:axis])
    free = any(isinstance(dim, str) for dim in place.bottom_dims[0][:axis])
    value = writer.reshape(value, ("items" if free else items, *place.bottom_dims[0][axis:]))
    return writer.reshape(filtered(value), place.top_dims[top])


@rule("Convolution", "Deconvolution")
def filtering(writer: Writer, place: Place) -> list[str]:
    """Conv and ConvTranspose have Caffe's layout of weights, and its way of padding."""
    layer = place.layer
    operator = "Conv" if layer.type == "Convolution" else "ConvTranspose"
    kernel, stride, pad, dilation = layer.window
    weights = [writer.parameter(place, name) for name in ("weight", "bias")[: 1 + layer.has_bias]]

    def filtered(value: str) -> str:
        return writer.add(
            operator, value, *weights,
            kernel_shape=kernel, strides=stride, pads=(*pad, *pad), dilations=dilation, group=layer.group,
        )  # fmt: skip

    return [_over_planes(writer, place, bottom, i, filtered) for i, bottom in enumerate(place.bottoms)]


@rule("Im2col")
def im2col(writer: Writer, place: Place) -> str:
    """A convolution, each filter of which takes one value of the window."""
    kernel, stride, pad, dilation = place.layer.window
    channels, size = place.node.bottom_shapes[0][place.layer.axis], math.prod(kernel)
    taps = np.tile(np.eye(size, dtype=np.float32), (channels, 1)).reshape(channels * size, 1, *kernel)
    weight = writer.constant(taps)

    def filtered(value: str) -> str:
        return writer.add(
            "Conv", value, weight,
            kernel_shape=kernel, strides=stride, pads=(*pad, *pad), dilations=dilation, group=channels,
        )  # fmt: skip

    return _over_planes(writer, place, place.bottoms[0], 0, filtered)


@rule("InnerProduct")
def inner_product(writer: Writer, place: Place) -> str:
    """Gemm on rows of the flattened values."""
    layer, dims = place.layer, place.bottom_dims[0]
    values = math.prod(place.node.bottom_shapes[0][layer.axis :])
    rows = place.bottoms[0]
    if len(dims) != 2 or layer.axis != 1:
        rows = writer.reshape(rows, ("rows", values))
    weights = [writer.parameter(place, name) for name in ("weight", "bias")[: 1 + layer.has_bias]]
    products = writer.add("Gemm", rows, *weights, transB=int(not layer.transposed))
    return products if layer.axis == 1 else writer.reshape(products, place.top_dims[0])


@rule("Embed")
def embed(writer: Writer, place: Place) -> str:
    """Gather."""
    rows = writer.add("Gather", writer.parameter(place, "weight"), writer.whole(place.bottoms[0]), axis=0)
    return writer.add("Add", rows, writer.parameter(place, "bias")) if place.layer.has_bias else rows
