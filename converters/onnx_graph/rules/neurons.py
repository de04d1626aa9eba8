"""Layers that treat every value by itself."""

from __future__ import annotations

import numpy as np

from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer

_ALIKE = {"AbsVal": "Abs", "BNLL": "Softplus", "Sigmoid": "Sigmoid", "TanH": "Tanh"}


@rule(*_ALIKE)
def alike(writer: Writer, place: Place) -> str:
    """An operator of ONNX does just that."""
    return writer.add(_ALIKE[place.layer.type], place.bottoms[0])


@rule("ReLU")
def relu(writer: Writer, place: Place) -> str:
    """With a slope below zero or without."""
    slope = place.layer.slope
    return writer.add("LeakyRelu", place.bottoms[0], alpha=slope) if slope else writer.add("Relu", place.bottoms[0])


@rule("PReLU")
def prelu(writer: Writer, place: Place) -> str:
    """The slopes stand on the channel axis."""
    shape = (place.values("slope").size, *(1,) * (len(place.bottom_dims[0]) - 2))
    return writer.add("PRelu", place.bottoms[0], writer.parameter(place, "slope", shape))


@rule("ELU")
def elu(writer: Writer, place: Place) -> str:
    """Elu."""
    return writer.add("Elu", place.bottoms[0], alpha=place.layer.alpha)


@rule("Clip")
def clip(writer: Writer, place: Place) -> str:
    """Clip."""
    return writer.add("Clip", place.bottoms[0], writer.constant(place.layer.low), writer.constant(place.layer.high))


@rule("Swish")
def swish(writer: Writer, place: Place) -> str:
    """x times the sigmoid of beta x."""
    gate = writer.add("Sigmoid", writer.scaled(place.bottoms[0], place.layer.beta))
    return writer.add("Mul", place.bottoms[0], gate)


@rule("Threshold")
def threshold(writer: Writer, place: Place) -> str:
    """1 above it."""
    return writer.ones_where(writer.add("Greater", place.bottoms[0], writer.constant(place.layer.threshold)))


@rule("Exp")
def exp(writer: Writer, place: Place) -> str:
    """e to the factor x plus the offset."""
    return writer.add("Exp", writer.scaled(place.bottoms[0], place.layer.factor, place.layer.offset))


@rule("Log")
def log(writer: Writer, place: Place) -> str:
    """The natural logarithm, times a factor for the base."""
    logarithm = writer.add("Log", writer.scaled(place.bottoms[0], place.layer.scale, place.layer.shift))
    return writer.scaled(logarithm, place.layer.factor)


@rule("Power")
def power(writer: Writer, place: Place) -> str:
    """(shift + scale x)^power, or a constant."""
    layer, x = place.layer, place.bottoms[0]
    if layer.power * layer.scale == 0:
        constant = np.power(np.float32(layer.shift), np.float32(layer.power)) if layer.power else 1.0
        return writer.add("Expand", writer.constant(constant), writer.shape(x, place.top_dims[0]))
    z = writer.scaled(x, layer.scale, layer.shift)
    return z if layer.power == 1 else writer.add("Pow", z, writer.constant(layer.power))
