"""Which function translates which operation of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Rule = TypeVar("Rule", bound=Callable[..., object])
_rules: dict[str, Callable[..., object]] = {}


def op(*names: str) -> Callable[[Rule], Rule]:
    """Register the translation of operations: ``relu`` for every overload, ``max.dim`` for one (it goes first).

    The function gets the Call, then the operation's arguments in the order of its schema, those left out with their
    defaults: tensors as Blob, Padded or Constant. It gives a value for each output: one, or a list.

    Raises:
        ValueError: a name is taken.
    """

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in _rules:
                raise ValueError(f"operation {name!r} is already translated by {_rules[name].__name__}")
            _rules[name] = rule
        return rule

    return register


def find(target: object) -> Callable[..., object] | None:
    """The translation of an operation of the graph, or None."""
    if not isinstance(target, torch._ops.OpOverload):
        return None
    packet = short_name(target)
    return _rules.get(f"{packet}.{target._overloadname}") or _rules.get(packet)


def short_name(target: torch._ops.OpOverload) -> str:
    """``conv2d`` for ``aten.conv2d.default``."""
    return target._schema.name.rpartition("::")[2]
