"""The range of values that a net's weights were trained on, against what its prototxt feeds them.

0 to 255 and 0 to 1 are a factor of 255 apart; natural images of all kinds differ much less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caffe_compat.errors import LayerError
from caffe_compat.graph import Graph, Node
from caffe_compat.layer_types.data import Data
from converters.range_fit import fit_scale
from prototxt.caffe_pb2 import TransformationParameter
from prototxt.errors import MissingFileError
from prototxt.weights import LayerWeights

#: Factors between what is fed and what was trained on: too many to come from the kind of images (half way, in orders
#: of magnitude, from 1 to 255), and too many to come from a range.
_CLEAR, _MOST = 16.0, 16.0 * 255
#: How near, as a factor, a range is called by its name.
_NEAR = 6.0
#: Data layers that decode pictures, and so begin with 0 to 255; Data does where its records are bytes.
_PICTURES = ("DenseImageData", "ImageData", "ImageSegData")


def wrong_ranges(graph: Graph, stored: Mapping[str, LayerWeights]) -> Iterator[str]:
    """A line for each data layer whose pictures clearly have another range than those of the training.

    Layers that do not say what they feed are not judged, nor are weights without statistics.
    """
    for node in graph.nodes:
        if not _feeds_pictures(node):
            continue
        written = node.message.transform_param
        try:
            fit = fit_scale(graph, node.tops[0], stored, written)
        except LayerError as error:
            yield from error.at(node.where)
            continue
        if fit is None:
            continue
        least, most = min(fit.factors), max(fit.factors)
        if _CLEAR <= least <= _MOST:
            times, wanted = least, "larger"
        elif _CLEAR <= 1 / most <= _MOST:
            times, wanted = 1 / most, "smaller"
        else:
            continue
        trained_on = _named([written.scale * factor for factor in fit.factors]) or "another range"
        yield (
            f"{node.where}: feeds pictures of 0 to 255 times `scale: {written.scale:g}`, but by the statistics of "
            f"{fit.told} the weights were trained on {trained_on}; expected a scale about "
            f"{times:.0f} times {wanted} in transform_param"
        )


def expected_ranges(graph: Graph, stored: Mapping[str, LayerWeights]) -> Iterator[str]:
    """For inputs that do not say what is fed: a line on the range the weights were trained on, where that is clear."""
    known = {top for node in graph.nodes if _feeds_pictures(node) for top in node.tops}
    for name in graph.feeds:
        fit = None if name in known else fit_scale(graph, name, stored, TransformationParameter())
        trained_on = _named(fit.factors) if fit else ""
        if trained_on:
            yield f"input {name!r}: by the statistics of {fit.told} the weights were trained on {trained_on}"


def _named(scales: Sequence[float]) -> str:
    """What pictures of 0 to 255 become at scales, as people call it; empty where that is not clear."""
    if all(1 / _NEAR <= scale <= _NEAR for scale in scales):
        return "images of 0 to 255, with or without a mean subtracted"
    if all(1 / _NEAR <= 255 * scale <= _NEAR for scale in scales):
        return "values of about 1 (as 0 to 1, or -1 to 1)"
    return ""


def _feeds_pictures(node: Node) -> bool:
    """Whether a layer puts out 8-bit pictures, transformed as it says. A database must be there to tell."""
    if not isinstance(node.layer, Data):
        return node.layer.type in _PICTURES
    try:
        return node.layer.open().holds_bytes()
    except MissingFileError:
        return False
