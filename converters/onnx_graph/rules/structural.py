"""Layers that compute nothing."""

from __future__ import annotations

from converters.onnx_graph.registry import Place, rule
from converters.onnx_graph.writing import Writer


@rule("Split")
def split(writer: Writer, place: Place) -> list[str]:
    """The same value for each reader."""
    return [place.bottoms[0]] * len(place.top_dims)


@rule("Silence")
def silence(writer: Writer, place: Place) -> list[str]:
    """Nothing."""
    return []


@rule("Parameter")
def parameter(writer: Writer, place: Place) -> str:
    """The values."""
    return writer.parameter(place, "values")


@rule("SoftmaxWithLoss", "RedSoftmaxWithLoss")
def softmax_of_loss(writer: Writer, place: Place) -> list[str | None]:
    """The softmax where it is a top of its own; the loss is left out."""
    if len(place.top_dims) == 1:
        return [None]
    return [None, writer.add("Softmax", place.bottoms[0], axis=place.layer.axis)]
