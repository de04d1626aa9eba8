"""Batch, local and mean-variance normalisation, Scale and Bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer


def _normalised(
    writer: Writer, x: str, axes: Sequence[int], epsilon: float, outside: bool = False
) -> tuple[str, str, str]:
    """(x - mean) / deviation over some axes, the mean and the biased variance; epsilon ``outside`` the root or in."""
    mean = writer.add("ReduceMean", x, axes=axes)
    centred = writer.add("Sub", x, mean)
    variance = writer.add("ReduceMean", writer.add("Mul", centred, centred), axes=axes)
    if outside:
        deviation = writer.scaled(writer.add("Sqrt", variance), 1, epsilon)
    else:
        deviation = writer.add("Sqrt", writer.scaled(variance, 1, epsilon))
    return writer.add("Div", centred, deviation), mean, variance


@rule("BN")
def bn(writer: Writer, place: Place) -> list[str]:
    """SegNet's: a factor and an offset, with LEARN after the batch's own statistics, which can be tops."""
    x, statistics = place.bottoms[0], ()
    if not place.layer.affine_only:
        x, *statistics = _normalised(writer, x, (0, 2, 3), 1e-9)
    y = writer.add("Mul", x, writer.parameter(place, "scale"))
    return [writer.add("Add", y, writer.parameter(place, "shift")), *statistics][: len(place.top_dims)]


@rule("BatchNorm")
def batch_norm(writer: Writer, place: Place) -> str:
    """BVLC's, without scale and shift."""
    layer, axes = place.layer, len(place.bottom_dims[0])
    if not (layer.written if layer.written is not None else not layer.training):
        return _normalised(writer, place.bottoms[0], [i for i in range(axes) if i != 1], layer.epsilon)[0]
    weight = place.values("weight").item()
    factor = np.float32(1 / weight if weight else 0)
    mean, variance = place.values("mean") * factor, place.values("variance") * factor
    if axes == 1:
        centred = writer.add("Sub", place.bottoms[0], writer.constant(mean))
        return writer.add("Div", centred, writer.constant(np.sqrt(variance + np.float32(layer.epsilon))))
    others = writer.constant(np.ones_like(mean)), writer.constant(np.zeros_like(mean))
    statistics = writer.constant(mean), writer.constant(variance)
    return writer.add("BatchNormalization", place.bottoms[0], *others, *statistics, epsilon=layer.epsilon)


def _spread(writer: Writer, place: Place, name: str) -> str:
    """A learnt factor or offset in a shape that broadcasts to the bottom."""
    shape = place.values(name).shape
    behind = len(place.bottom_dims[0]) - place.layer.axis - len(shape)
    return writer.parameter(place, name, (*shape, *(1,) * behind))


def _second(writer: Writer, place: Place) -> str:
    """The second bottom, in such a shape."""
    axes, own = len(place.bottom_dims[0]), len(place.bottom_dims[1])
    behind = range(own, axes - place.layer.axis)
    if not own or not behind:
        return place.bottoms[1]
    return writer.add("Unsqueeze", place.bottoms[1], writer.ints(behind))


@rule("Scale")
def scale(writer: Writer, place: Place) -> str:
    """Times a factor, plus an offset."""
    factor = _second(writer, place) if len(place.bottoms) == 2 else _spread(writer, place, "scale")
    y = writer.add("Mul", place.bottoms[0], factor)
    return writer.add("Add", y, _spread(writer, place, "bias")) if place.layer.has_bias else y


@rule("Bias")
def bias(writer: Writer, place: Place) -> str:
    """Plus an offset."""
    offset = _second(writer, place) if len(place.bottoms) == 2 else _spread(writer, place, "bias")
    return writer.add("Add", place.bottoms[0], offset)


@rule("LRN")
def lrn(writer: Writer, place: Place) -> str:
    """Across channels ONNX's own, which divides alpha by the size as Caffe does; within them by AveragePool."""
    layer, x = place.layer, place.bottoms[0]
    if not layer.within:
        return writer.add("LRN", x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
    squares = writer.add("Mul", x, x)
    mean = writer.add(
        "AveragePool", squares,
        kernel_shape=(layer.size,) * 2, strides=(1, 1), pads=(layer.size // 2,) * 4, count_include_pad=1,
    )  # fmt: skip
    return writer.add("Div", x, writer.add("Pow", writer.scaled(mean, layer.alpha, 1), writer.constant(layer.beta)))


@rule("MVN")
def mvn(writer: Writer, place: Place) -> str:
    """Planes or items without their mean, and with deviation 1."""
    layer, x = place.layer, place.bottoms[0]
    if layer.scales:
        return _normalised(writer, x, layer.axes, layer.epsilon, outside=True)[0]
    return writer.add("Sub", x, writer.add("ReduceMean", x, axes=layer.axes))
