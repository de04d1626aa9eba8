"""Layers that change shapes or go along an axis: Flatten, Reshape, Tile, Reduction, Softmax, ArgMax, Interp."""

from __future__ import annotations

import numpy as np

from caffe_compat.shapes import canonical_axis
from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer
from prototxt.caffe_pb2 import ReductionParameter


@rule("Flatten", "Reshape")
def reshaped(writer: Writer, place: Place) -> str:
    """The same values."""
    return writer.reshape(place.bottoms[0], place.top_dims[0])


@rule("Tile")
def tile(writer: Writer, place: Place) -> str:
    """Tile."""
    return writer.add("Tile", place.bottoms[0], writer.ints(place.layer.times))


_REDUCTIONS = {
    ReductionParameter.ASUM: "ReduceL1",
    ReductionParameter.SUMSQ: "ReduceSumSquare",
    ReductionParameter.MEAN: "ReduceMean",
}


@rule("Reduction")
def reduction(writer: Writer, place: Place) -> str:
    """Over all axes from one on."""
    layer, x = place.layer, place.bottoms[0]
    axes = range(layer.axis, len(place.bottom_dims[0]))
    if place.message.reduction_param.operation == ReductionParameter.SUM:
        reduced = writer.add("ReduceSum", x, writer.ints(axes), keepdims=0)  # the only one with axes as an input
    else:
        operator = _REDUCTIONS[place.message.reduction_param.operation]
        reduced = writer.add(operator, x, axes=list(axes), keepdims=0)
    return writer.scaled(reduced, layer.factor)


@rule("Softmax")
def softmax(writer: Writer, place: Place) -> str:
    """Softmax."""
    return writer.add("Softmax", place.bottoms[0], axis=place.layer.axis)


@rule("ArgMax")
def argmax(writer: Writer, place: Place) -> str:
    """Of equal values the last: ArgMax can be told so, TopK takes the first of a flipped axis."""
    layer, x, dims = place.layer, place.bottoms[0], place.bottom_dims[0]
    if layer.axis is None:
        x, axis = writer.add("Flatten", x, axis=1), 1
        size = int(np.prod(place.node.bottom_shapes[0][1:]))
    else:
        axis = canonical_axis(layer.axis, len(dims))
        size = place.node.bottom_shapes[0][axis]
    values, indices = _largest(writer, x, axis, layer.top_k, size)
    if layer.axis is not None:
        return values if layer.gives_values else indices
    rows = [indices, values] if layer.gives_values else [indices]
    return writer.reshape(writer.add("Concat", *rows, axis=1), place.top_dims[0])


def _largest(writer: Writer, x: str, axis: int, count: int, size: int) -> tuple[str, str]:
    """The largest values along an axis, and their indices as floats."""
    if count == 1:
        indices = writer.add("ArgMax", x, axis=axis, keepdims=1, select_last_index=1)
        return writer.add("ReduceMax", x, axes=[axis], keepdims=1), writer.floats(indices)
    backwards = writer.ints([-1]), writer.ints([-size - 1]), writer.ints([axis]), writer.ints([-1])
    flipped = writer.add("Slice", x, *backwards)
    values, indices = writer.add_with_tops("TopK", 2, flipped, writer.ints([count]), axis=axis)
    return values, writer.floats(writer.add("Sub", writer.ints([size - 1]), indices))


@rule("Interp")
def interp(writer: Writer, place: Place) -> str:
    """Resize with the corners in place, after cropping."""
    layer, x, dims = place.layer, place.bottoms[0], place.bottom_dims[0]
    first, last = layer.crop
    height, width = (size - first - last for size in dims[2:])
    if first or last:
        x = writer.slice(x, (first, first), (first + height, first + width), (2, 3))
    if (height, width) == tuple(layer.size):
        return x
    sizes = writer.shape(x, (*dims[:2], *layer.size))
    return writer.add(
        "Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="align_corners"
    )  # fmt: skip
