"""Layers that join blobs, take one apart or choose from it."""

from __future__ import annotations

import functools

from caffe_compat.errors import LayerError
from converters.onnx_graph.registry import BatchFixed, Place, rule
from converters.onnx_graph.writing import Writer
from prototxt.caffe_pb2 import EltwiseParameter


@rule("Concat")
def concat(writer: Writer, place: Place) -> str:
    """One after another."""
    return writer.add("Concat", *place.bottoms, axis=place.layer.axis)


@rule("Slice")
def slices(writer: Writer, place: Place) -> list[str]:
    """Split, whose parts are fixed."""
    axis = place.layer.axis
    parts = [dims[axis] for dims in place.top_dims]
    if not all(isinstance(part, int) for part in parts):
        raise BatchFixed(f"cuts axis {axis}, which goes with the number of images")
    return writer.add_with_tops("Split", len(parts), place.bottoms[0], writer.ints(parts), axis=axis)


@rule("Eltwise")
def eltwise(writer: Writer, place: Place) -> str:
    """Value by value."""
    param = place.message.eltwise_param
    if param.operation == EltwiseParameter.MAX:
        return writer.add("Max", *place.bottoms)
    operator = "Add" if param.operation == EltwiseParameter.SUM else "Mul"
    weights = param.coeff or [1.0] * len(place.bottoms)
    terms = [writer.scaled(bottom, weight) for bottom, weight in zip(place.bottoms, weights, strict=True)]
    return functools.reduce(lambda one, other: writer.add(operator, one, other), terms)


@rule("SpatialProduct")
def spatial_product(writer: Writer, place: Place) -> str:
    """Mul broadcasts."""
    return writer.add("Mul", *place.bottoms)


@rule("Crop")
def crop(writer: Writer, place: Place) -> str:
    """A window whose place and size are known beforehand."""
    x, reference = place.bottom_dims
    cut = [
        (axis, offset, reference[axis])
        for axis, offset in enumerate(place.layer.offsets, place.layer.axis)
        if offset or x[axis] != reference[axis]
    ]
    if not all(isinstance(size, int) for _, _, size in cut):
        raise BatchFixed("crops the axis of images")
    if not cut:
        return place.bottoms[0]
    axes, offsets, sizes = zip(*cut, strict=True)
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    return writer.slice(place.bottoms[0], offsets, ends, axes)


@rule("BatchReindex")
def batch_reindex(writer: Writer, place: Place) -> str:
    """Gather."""
    return writer.add("Gather", place.bottoms[0], writer.whole(place.bottoms[1]), axis=0)


@rule("Filter")
def filter_items(writer: Writer, place: Place) -> list[str]:
    """Compress, with a number of items that only the run tells."""
    *sources, selector = place.bottoms
    if isinstance(place.top_dims[0][0], int):
        raise LayerError("how many items it leaves is known only when it runs; expected an input of images, no --batch")
    selector = writer.add("Reshape", selector, writer.ints([-1]))
    chosen = writer.add("Not", writer.add("Equal", selector, writer.constant(0.0)))
    return [writer.add("Compress", source, chosen, axis=0) for source in sources]
