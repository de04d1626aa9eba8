"""The modules that an emitted class holds, and which layers share them or their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from converters.emitting.naming import attribute
from converters.emitting.plan import CannotEmit, Step


@dataclass
class Modules:
    """What ``__init__`` makes."""

    attributes: dict[Step, str] = field(default_factory=dict)
    """The attribute of each step that has a module; layers that share all their parameters have one together."""
    lines: list[tuple[Step, str, str]] = field(default_factory=list)
    """Step, attribute and what it is set to, in order."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Attribute → key of the layer in ``Net.layer``, where they differ."""


def modules(steps: Sequence[Step]) -> Modules:
    """Name the modules. Raises CannotEmit for parameters that are shared in another shape."""
    found = Modules()
    holders: dict[tuple[int, int], tuple[Step, int]] = {}
    problems: list[str] = []
    for step in steps:
        if not step.constructor:
            continue
        roots = [param.owner or (step.index, i) for i, param in enumerate(step.node.params)]
        held = [holders.get(root) for root in roots]
        first = held[0][0] if held and held[0] else None
        if first and first.constructor == step.constructor and held == [(first, i) for i in range(len(roots))]:
            found.attributes[step] = found.attributes[first]
            continue
        name = attribute(step.layer.name, {own for _, own, _ in found.lines})
        found.attributes[step] = name
        found.lines.append((step, name, step.constructor))
        if name != step.key:
            found.renamed[name] = step.key
        for i, (root, other) in enumerate(zip(roots, held, strict=True)):
            if other is None:
                holders[root] = (step, i)
            elif _fits(step, i, *other):
                theirs = f"self.{found.attributes[other[0]]}.{_parameter(*other)}"
                found.lines.append((step, f"{name}.{_parameter(step, i)}", theirs))
            else:
                problems.append(f"{step.node.where}: shares a parameter with {other[0].layer.name!r} in another shape")
    if problems:
        raise CannotEmit(problems)
    return found


def _fits(step: Step, i: int, other: Step, j: int) -> bool:
    """Whether two layers can hold one parameter; Scale and Bias hold theirs in a shape that broadcasts."""
    same = tuple(step.node.params[i].spec.shape) == tuple(other.node.params[j].spec.shape)
    broadcast = {step.layer.type, other.layer.type} & {"Bias", "Scale"}
    return same and (not broadcast or step.constructor == other.constructor)


def _parameter(step: Step, i: int) -> str:
    """The name of a parameter in the module that stands for the layer."""
    return "weight" if step.layer.type == "PReLU" else step.node.params[i].spec.name
