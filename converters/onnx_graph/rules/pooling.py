"""Pooling with Caffe's sizes and positions, SPP."""

from __future__ import annotations

import math

import numpy as np

from caffe_compat.layer_types.pooling import Pooling
from caffe_compat.shapes import Shape
from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer

_LOWEST = float(np.finfo(np.float32).min)
_SMALLEST = float(np.finfo(np.float32).tiny)


@rule("Pooling")
def pooling(writer: Writer, place: Place) -> list[str]:
    """The pooled map, and the mask."""
    return _pooled(writer, place.layer, place.bottoms[0], place.node.bottom_shapes[0][2:])


@rule("SPP")
def spp(writer: Writer, place: Place) -> str:
    """Every level's bins side by side."""
    plane = place.node.bottom_shapes[0][2:]
    levels = [_pooled(writer, level, place.bottoms[0], plane)[0] for level in place.layer.levels]
    return writer.add("Concat", *(writer.add("Flatten", level, axis=1) for level in levels), axis=1)


def _pooled(writer: Writer, layer: Pooling, x: str, plane: Shape) -> list[str]:
    if layer.maximum:
        return _maximum(writer, layer, x, plane)
    if layer.stochastic:
        return [_expected(writer, layer, x, plane)]
    return [_mean(writer, layer, x, plane)]


class _Window:
    """Where the windows lie. The padding behind is as much as Caffe's windows need, so that no rounding is left."""

    def __init__(self, writer: Writer, layer: Pooling, x: str, plane: Shape, filling: float) -> None:
        rows, columns = layer.overhang(plane)
        self.padding = (*layer.pad, rows, columns)
        self.x, self.width, self.offset = x, plane[1], (0, 0)
        kernel = layer.window
        self.padded = any(pad >= size for pad, size in zip(self.padding, (*kernel, *kernel), strict=True))
        if self.padded:  # windows beyond the plane; ONNX allows less padding than a window
            top, left, bottom, right = self.padding
            pads = writer.ints((0, 0, top, left, 0, 0, bottom, right))
            self.x = writer.add("Pad", x, pads, writer.constant(filling))
            self.width, self.offset, self.padding = plane[1] + left + right, (top, left), (0, 0, 0, 0)
        self.plane = math.prod(plane) if not self.padded else (plane[0] + top + bottom) * self.width
        self.attributes = {"kernel_shape": kernel, "strides": layer.stride, "pads": self.padding}


def _maximum(writer: Writer, layer: Pooling, x: str, plane: Shape) -> list[str]:
    """MaxPool counts positions through all planes, Caffe in each."""
    window = _Window(writer, layer, x, plane, _LOWEST)
    if layer.top_count == 1:
        return [writer.add("MaxPool", window.x, **window.attributes)]
    y, counted = writer.add_with_tops("MaxPool", 2, window.x, **window.attributes)
    positions = writer.add("Mod", counted, writer.ints([window.plane]))
    if window.padded:
        row = writer.add("Div", positions, writer.ints([window.width]))
        column = writer.add("Mod", positions, writer.ints([window.width]))
        row, column = (
            writer.add("Sub", value, writer.ints([offset]))
            for value, offset in zip((row, column), window.offset, strict=True)
        )
        positions = writer.add("Add", writer.add("Mul", row, writer.ints([plane[1]])), column)
        found = writer.add("Greater", y, writer.constant(_LOWEST))
        positions = writer.add("Where", found, positions, writer.ints([-1]))
    return [y, writer.floats(positions)]


def _mean(writer: Writer, layer: Pooling, x: str, plane: Shape) -> str:
    """AveragePool divides by the whole window; Caffe does not count what lies beyond plane and padding."""
    window = _Window(writer, layer, x, plane, 0.0)
    y = writer.add("AveragePool", window.x, count_include_pad=1, **window.attributes)
    areas, whole = layer.areas(plane).numpy(), math.prod(layer.window)
    if (areas == whole).all():
        return y
    with np.errstate(divide="ignore"):  # a window beyond everything gives 0 / 0 in Caffe, and here
        return writer.add("Mul", y, writer.constant(np.float32(whole) / areas.astype(np.float32)))


def _expected(writer: Writer, layer: Pooling, x: str, plane: Shape) -> str:
    """STOCHASTIC in TEST: the sum of squares over the sum."""
    window = _Window(writer, layer, x, plane, 0.0)
    squares = writer.add("Mul", window.x, window.x)
    whole = math.prod(layer.window)
    sums = [
        writer.scaled(writer.add("AveragePool", value, count_include_pad=1, **window.attributes), whole)
        for value in (squares, window.x)
    ]
    return writer.add("Div", sums[0], writer.add("Add", sums[1], writer.constant(_SMALLEST)))
