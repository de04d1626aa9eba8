"""Layers that compute nothing."""

from __future__ import annotations

from caffe_compat.layer_base import TorchLayer
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


_MEASURES = ("Accuracy", "BinaryAccuracy", "EltwiseAccuracy", "RedAccuracy", "SegAccuracy")
_FILES = ("HDF5Output", "MatWrite")


def is_left_out(layer: TorchLayer) -> bool:
    """Whether a layer does not belong into a model: losses and measures want labels, others write files.

    What they read becomes an output.
    """
    return layer.is_loss or layer.type in (*_MEASURES, *_FILES)


@rule("SoftmaxWithLoss", "RedSoftmaxWithLoss")
def softmax_of_loss(writer: Writer, place: Place) -> list[str | None]:
    """The softmax where it is a top of its own; the loss is left out."""
    if len(place.top_dims) == 1:
        return [None]
    return [None, writer.add("Softmax", place.bottoms[0], axis=place.layer.axis)]


@rule(*_MEASURES, *_FILES)
def left_out(writer: Writer, place: Place) -> list[str | None]:
    """No node."""
    return [None] * len(place.top_dims)
