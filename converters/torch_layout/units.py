"""What a net and a reference are made of, in order: filters, normalisations, slopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from caffe_compat import Net
from caffe_compat.graph import Node
from caffe_compat.layer_kinds import LINEAR
from caffe_compat.shapes import Shape

#: A unit's kind.
FILTER, NORM, SLOPE, OTHER = "filter", "norm", "slope", "other"


@dataclass(eq=False)
class Unit:
    """Some parameters that belong together, of a layer or of a module."""

    kind: str
    name: str
    """The layer's, or the module's path in the reference."""
    shape: Shape
    """Of the weight; (C,) of a normalisation."""
    parts: Mapping[str, torch.Tensor]
    """Of a reference: last word of the key → tensor. Of a layer: in torch's words, as far as it has them."""
    nodes: Sequence[Node] = ()
    """The layer, and a Scale that belongs to it."""
    epsilon: float = 0.0
    """What is added to ``running_var`` of a layer."""
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name} {tuple(self.shape)}"


def units_of_state(state: Mapping[str, torch.Tensor]) -> list[Unit]:
    """The units of a reference, in the order of its definition."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.items():
        module, _, word = key.rpartition(".")
        modules.setdefault(module, {})[word] = tensor
    return [Unit(_kind(parts), module, _shape(parts), parts) for module, parts in modules.items()]


def _kind(parts: Mapping[str, torch.Tensor]) -> str:
    weight = parts.get("weight")
    if "running_mean" in parts:
        return NORM
    if weight is None or not parts.keys() <= {"weight", "bias"}:
        return OTHER
    if weight.dim() > 1:
        return FILTER
    return NORM if "bias" in parts else SLOPE


def _shape(parts: Mapping[str, torch.Tensor]) -> Shape:
    first = parts.get("weight", parts.get("running_mean", next(iter(parts.values()))))
    return tuple(first.shape)


def units_of_net(net: Net) -> tuple[list[Unit], list[str]]:
    """The units of a net's layers, in order, and what of its parameters no torch module has.

    Layers that share all their parameters with an earlier one are left out. A Scale that takes what a BatchNorm makes
    belongs to it.
    """
    found: list[Unit] = []
    problems: list[str] = []
    for node in net.graph.nodes:
        layer = node.layer
        if not node.params or all(param.owner is not None for param in node.params):
            continue
        if layer.type in LINEAR:
            weight = layer.weight.T if layer.type == "InnerProduct" and layer.transposed else layer.weight
            parts = {"weight": weight} | ({"bias": layer.bias} if layer.has_bias else {})
            found.append(Unit(FILTER, layer.name, tuple(weight.shape), parts, [node]))
        elif layer.type == "PReLU":
            slope = layer.slope.reshape(-1)
            found.append(Unit(SLOPE, layer.name, tuple(slope.shape), {"weight": slope}, [node]))
        elif layer.type == "BN":
            parts = {"weight": layer.scale.flatten(), "bias": layer.shift.flatten()}
            if layer.affine_only:
                parts |= {
                    "running_mean": torch.zeros_like(parts["bias"]),
                    "running_var": torch.ones_like(parts["bias"]),
                }
            found.append(Unit(NORM, layer.name, tuple(parts["weight"].shape), parts, [node]))
        elif layer.type == "BatchNorm":
            found.append(_batch_norm(node))
        elif (
            layer.type == "Scale"
            and len(node.params[0].spec.shape) == 1
            and layer.axis == 1
            and "scale" in _names(node)
        ):
            _scale(node, found)
        else:
            problems.append(f"{node.where}: torch has no module with such parameters")
    return found, problems


def _names(node: Node) -> list[str]:
    return [param.spec.name for param in node.params]


def _batch_norm(node: Node) -> Unit:
    layer = node.layer
    factor = torch.where(layer.weight == 0, torch.zeros_like(layer.weight), 1 / layer.weight)
    parts = {"running_mean": layer.mean * factor, "running_var": layer.variance * factor}
    return Unit(NORM, layer.name, tuple(layer.mean.shape), parts, [node], layer.epsilon)


def _scale(node: Node, found: list[Unit]) -> None:
    """Give a BatchNorm its factors, or make a normalisation of factors alone."""
    scale = node.layer.scale
    parts = {"weight": scale, "bias": node.layer.bias if node.layer.has_bias else torch.zeros_like(scale)}
    before = found[-1] if found else None
    if before and before.nodes[-1].layer.type == "BatchNorm" and before.nodes[-1].tops[:1] == node.bottoms[:1]:
        before.parts = {**before.parts, **parts}
        before.nodes = [*before.nodes, node]
        return
    parts |= {"running_mean": torch.zeros_like(scale), "running_var": torch.ones_like(scale)}
    found.append(Unit(NORM, node.layer.name, tuple(scale.shape), parts, [node]))
