"""Index upsampling and DeconvNet's unpooling, by index arithmetic.

MaxUnpool is no help: it makes no plane that is smaller than the stride times the pooled one, as 45 rows of 23 are.
ScatterElements on a plane of zeros makes any.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer


def _put_at(writer: Writer, place: Place, height: int, width: int) -> str:
    """Values at the positions of a mask, zero elsewhere, plane by plane: (N, C, h, w) -> (N, C, height, width).

    Of two values for one place, which overlapping windows can give, the later stays in ONNX Runtime, as in Caffe;
    ONNX leaves it open.
    """
    x, mask = place.bottoms
    batch, channels = place.bottom_dims[0][:2]
    each = writer.ints((0, 0, -1))  # 0 keeps an axis
    values = writer.add("Reshape", x, each)
    positions = writer.add("Reshape", writer.whole(mask), each)
    zero = helper.make_tensor("value", TensorProto.FLOAT, (1,), (0.0,))  # the default, which OpenCV wants written
    zeros = writer.add("ConstantOfShape", writer.shape(x, (batch, channels, height * width)), value=zero)
    plane = writer.add("ScatterElements", zeros, positions, values, axis=2)
    return writer.reshape(plane, place.top_dims[0])


@rule("Upsample")
def upsample(writer: Writer, place: Place) -> str:
    """Values back where they came from."""
    return _put_at(writer, place, place.layer.height, place.layer.width)


@rule("Python index_upsampling.IndexUpsampling")
def upsample_in_python(writer: Writer, place: Place) -> str:
    """The same, translated for plain Caffe."""
    return _put_at(writer, place, *place.node.top_shapes[0][2:])


@rule("Unpooling")
def unpooling(writer: Writer, place: Place) -> str:
    """By the mask, into the corners of windows, or all over them."""
    layer = place.layer
    if layer.has_mask:
        return _put_at(writer, place, *layer.size)
    if layer.method == "MAX":
        return _into_corners(writer, place)
    return _all_over(writer, place)


def _into_corners(writer: Writer, place: Place) -> str:
    """Every place of the plane fetches the last value that was put there, or a zero from behind the values."""
    layer = place.layer
    h, w = place.node.bottom_shapes[0][2:]
    (height, width), (down, right) = layer.size, layer.stride
    rows, columns = np.minimum(np.arange(h) * down, height - 1), np.minimum(np.arange(w) * right, width - 1)
    source = np.full(height * width, h * w, np.int64)
    for position, value in zip((rows[:, None] * width + columns).ravel(), range(h * w), strict=True):
        source[position] = value
    values = writer.add("Reshape", place.bottoms[0], writer.ints((0, 0, -1)))
    values = writer.add("Pad", values, writer.ints((0, 0, 0, 0, 0, 1)))
    return writer.reshape(writer.add("Gather", values, writer.ints(source), axis=2), place.top_dims[0])


def _all_over(writer: Writer, place: Place) -> str:
    """A transposed convolution with ones, channel by channel; AVE's value is first shared out."""
    layer, value = place.layer, place.bottoms[0]
    channels, *plane = place.node.bottom_shapes[0][1:]
    starts = [np.arange(count) * stride for count, stride in zip(plane, layer.stride, strict=True)]
    if layer.method == "AVE":
        rows, columns = (
            np.clip(size - start, 1, kernel)
            for size, start, kernel in zip(layer.size, starts, layer.kernel, strict=True)
        )
        value = writer.add("Div", value, writer.constant(rows[:, None] * columns))
    ones = writer.constant(np.ones((channels, 1, *layer.kernel)))
    value = writer.add(
        "ConvTranspose", value, ones, kernel_shape=layer.kernel, strides=layer.stride, group=channels
    )  # fmt: skip
    covered = [start[-1] + kernel for start, kernel in zip(starts, layer.kernel, strict=True)]
    if any(have > size for have, size in zip(covered, layer.size, strict=True)):
        value = writer.slice(value, (0, 0), layer.size, (2, 3))
    missing = [max(size - have, 0) for have, size in zip(covered, layer.size, strict=True)]
    return writer.add("Pad", value, writer.ints((0, 0, 0, 0, 0, 0, *missing))) if any(missing) else value
