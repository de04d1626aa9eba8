"""Dropout: nothing where it does not draw, else random numbers of ONNX's own.

ONNX's Dropout would say it in one node, but ONNX Runtime takes it for the identity, whatever its ``training_mode``.
"""

from __future__ import annotations

import ast

from converters.onnx_graph.registry import Dims, Place, rule
from converters.onnx_graph.writing import Writer


def _drop(writer: Writer, place: Place, ratio: float, scale: float, drawn: Dims) -> str:
    """Zero with probability ``ratio``, else x times ``scale``; one draw for each place of a shape that broadcasts."""
    writer.remarks.append(f"{place.layer.name} draws at random, in every run anew")
    x = place.bottoms[0]
    like = x if drawn == place.bottom_dims[0] else writer.add("ConstantOfShape", writer.shape(x, drawn))
    is_dropped = writer.add("Less", writer.add("RandomUniformLike", like), writer.constant(ratio))
    return writer.add("Where", is_dropped, writer.constant(0.0), writer.scaled(x, scale))


def _channels(place: Place) -> Dims:
    """One draw for each channel of each image."""
    dims = place.bottom_dims[0]
    return (*dims[:2], *(1,) * (len(dims) - 2))


@rule("Dropout")
def dropout(writer: Writer, place: Place) -> str:
    """Nothing in TEST, unless it samples there as Bayesian SegNet does."""
    layer = place.layer
    if not (layer.training or layer.samples_in_test):
        return place.bottoms[0]
    return _drop(writer, place, layer.ratio, 1 / (1 - layer.ratio), place.bottom_dims[0])


@rule("DropoutChannel")
def dropout_channel(writer: Writer, place: Place) -> str:
    """Nothing in TEST."""
    if not place.layer.training:
        return place.bottoms[0]
    return _drop(writer, place, place.layer.ratio, 1 / (1 - place.layer.ratio), _channels(place))


@rule("Python spatial_dropout.SpatialDropoutLayer")
def spatial_dropout(writer: Writer, place: Place) -> str:
    """ENet's multiplies in any case; whether it drops stands in its text, not in the net's phase."""
    settings = ast.literal_eval(place.message.python_param.param_str)
    ratio = float(settings["p"])
    if settings["phase"] == "TRAIN":
        return _drop(writer, place, ratio, 1 / (1 - ratio), _channels(place))
    return writer.scaled(place.bottoms[0], 1 / (1 - ratio))
