"""One convolution of VGG16, with the normalisation behind it or without, in the layers of a net."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from caffe_compat.errors import LayerError
from caffe_compat.graph import Graph, Node
from converters.vgg16.source import Filters

_NORMS = ("BN", "BatchNorm", "Scale")


class Put(NamedTuple):
    """What a layer gets."""

    node: Node
    blobs: list[np.ndarray]
    """In the shapes of the layer's own, float32."""
    source: str
    remark: str = ""


def _behind(graph: Graph, node: Node) -> list[Node]:
    """What normalises a convolution's output: nothing; BN; Scale; BatchNorm, alone or with its Scale.

    Raises:
        LayerError: the output is read by other layers beside a normalisation.
    """
    found: list[Node] = []
    blob = node.tops[0]
    for other in graph.nodes[graph.nodes.index(node) + 1 :]:
        if blob not in other.bottoms:
            continue
        if other.layer.type == "Split":
            readers = [one for one in graph.nodes if set(other.tops) & set(one.bottoms)]
            if any(_is_norm(one, found) for one in readers):
                names = ", ".join(repr(one.layer.name) for one in readers)
                raise LayerError(f"{names} read {blob!r}; expected its normalisation alone, so that VGG16's can follow")
        if not _is_norm(other, found):
            break
        found.append(other)
        blob = other.tops[0]
        if other.layer.type != "BatchNorm":
            break
    return found


def _is_norm(node: Node, found: Sequence[Node]) -> bool:
    """Whether a layer goes on with the normalisation that was found so far."""
    if node.layer.type == "Scale":
        return len(node.bottoms) == 1 and node.layer.axis == 1 and len(node.params[0].spec.shape) == 1
    return not found and node.layer.type in _NORMS


def place(graph: Graph, node: Node, filters: Filters, remark: str = "") -> list[Put]:
    """What a convolution of a net and the layers behind it get, so that they compute what VGG16 does.

    Without a normalisation in VGG16 (``filters.norm``) those of the net keep their fillers, as the authors of SegNet
    trained it. With one, it becomes scale and shift of BN (INFERENCE) or of Scale; gamma and beta of BN (LEARN), whose
    statistics are the batch's; statistics, gamma and beta of BatchNorm and Scale; and goes into the convolution itself
    where nothing normalises. A convolution without a bias leaves it to the normalisation.

    Args:
        graph: of the net.
        node: the convolution.
        filters: its weights, as the net's images want them.
        remark: what was done to them, for people.

    Raises:
        LayerError: a bias, or a part of the normalisation, has no place.
    """
    norms = _behind(graph, node) if filters.norm or not node.layer.has_bias else []
    rule = _RULES[" ".join(one.layer.type for one in norms)] if filters.norm else _without_norm
    first, *others = rule(node, norms, filters)
    return [first._replace(remark="; ".join(filter(None, (remark, first.remark)))), *others]


def _convolution(node: Node, filters: Filters, remark: str = "") -> Put:
    return _put(node, [filters.weight, filters.bias][: len(node.params)], filters.name, remark)


def _put(node: Node, values: Sequence[np.ndarray], source: str, remark: str = "") -> Put:
    blobs = [
        np.ascontiguousarray(value, np.float32).reshape(param.spec.shape)
        for value, param in zip(values, node.params, strict=True)
    ]
    return Put(node, blobs, source, remark)


def _bias_of(node: Node, filters: Filters) -> np.ndarray | float:
    """The bias that the convolution leaves to what is behind it."""
    return 0.0 if node.layer.has_bias else filters.bias


def _without_norm(node: Node, norms: Sequence[Node], filters: Filters) -> list[Put]:
    if node.layer.has_bias or not filters.bias.any():
        return [_convolution(node, filters)]
    if not norms or not _takes_the_batch(norms[0]):
        raise LayerError("`bias_term: false`, so VGG16's bias has no place; expected `bias_term: true`")
    return [_convolution(node, filters, "bias left out, the batch's mean takes it away")]


def _takes_the_batch(norm: Node) -> bool:
    """Whether a layer subtracts the batch's own mean in a training."""
    if norm.layer.type == "BN":
        return not norm.layer.affine_only
    return norm.layer.type == "BatchNorm" and not norm.message.batch_norm_param.use_global_stats


def _into_convolution(node: Node, norms: Sequence[Node], filters: Filters) -> list[Put]:
    factor, offset = filters.norm.affine()
    bias = filters.bias * factor + offset
    if not node.layer.has_bias and bias.any():
        raise LayerError(
            "`bias_term: false` and no normalisation behind it, so VGG16's has no place; expected `bias_term: true`"
        )
    folded = Filters(f"{filters.name}, {filters.norm.name}", filters.weight * factor.reshape(-1, 1, 1, 1), bias)
    return [_convolution(node, folded, "normalisation put into weights and bias")]


def _into_bn(node: Node, norms: Sequence[Node], filters: Filters) -> list[Put]:
    if norms[0].layer.affine_only:
        return _into_affine(node, norms, filters)
    norm = filters.norm
    remark = "gamma, beta; the statistics are the batch's"
    return [_convolution(node, filters), _put(norms[0], [norm.gamma, norm.beta], norm.name, remark)]


def _into_affine(node: Node, norms: Sequence[Node], filters: Filters) -> list[Put]:
    factor, offset = filters.norm.affine()
    affine = _with_offset(norms[0], factor, offset + _bias_of(node, filters) * factor)
    remark = "with the statistics, as scale and shift"
    return [_convolution(node, filters), _put(norms[0], affine, filters.norm.name, remark)]


def _with_offset(norm: Node, factor: np.ndarray, offset: np.ndarray) -> list[np.ndarray]:
    """The values of BN or Scale, which may have no offset."""
    if len(norm.params) == 1 and offset.any():
        raise LayerError(
            f"{norm.layer.name!r} (Scale) behind it has `bias_term: false`, so VGG16's beta has no place; expected "
            "`bias_term: true`"
        )
    return [factor, offset][: len(norm.params)]


def _into_statistics(node: Node, norms: Sequence[Node], filters: Filters) -> list[Put]:
    norm, (batch_norm, scale) = filters.norm, norms
    variance = norm.variance - batch_norm.layer.epsilon
    remark = "mean, variance"
    if variance.min() < 0:
        remark += (
            f" less eps, {np.count_nonzero(variance < 0)} below 0; with eps {batch_norm.layer.epsilon:g} all are above"
        )
    statistics = [norm.mean - _bias_of(node, filters), variance, np.ones(1)]
    return [
        _convolution(node, filters),
        _put(batch_norm, statistics, norm.name, remark),
        _put(scale, _with_offset(scale, norm.gamma, norm.beta), norm.name, "gamma, beta"),
    ]


def _nowhere(node: Node, norms: Sequence[Node], filters: Filters) -> list[Put]:
    raise LayerError(
        f"{norms[0].layer.name!r} (BatchNorm) behind it has no Scale, so VGG16's gamma and beta have no place; "
        "expected a Scale with `bias_term: true`, or take vgg16 without normalisation"
    )


#: Types behind a convolution → where VGG16's normalisation goes.
_RULES: dict[str, Callable[[Node, Sequence[Node], Filters], list[Put]]] = {
    "": _into_convolution,
    "BN": _into_bn,
    "Scale": _into_affine,
    "BatchNorm Scale": _into_statistics,
    "BatchNorm": _nowhere,
}
