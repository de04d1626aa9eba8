"""Names in an emitted source: attributes of layers, variables of values."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Container, Sequence

from torch import nn

from converters.emitting.plan import Assignment, Value

_MODULES_OWN = frozenset(dir(nn.Module()))
_TAKEN = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "torch", "F", "nn", "self", "_"})
#: For values that live for a few lines; others are named after their blobs.
_SHORT = ("x", "y", "z", "u", "v", "w")
_LONGEST = 32


def identifier(name: str, taken: Container[str] = ()) -> str:
    """A name as Python allows it, with a number where it is taken."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    plain = f"_{plain}" if not plain or plain[0].isdigit() else plain
    plain = f"{plain}_" if plain in _TAKEN else plain
    unique, count = plain, 2
    while unique in taken:
        unique, count = f"{plain}_{count}", count + 1
    return unique


def attribute(name: str, taken: Container[str]) -> str:
    """The attribute of a module that stands for a layer."""
    plain = identifier(name)
    return identifier(f"{plain}_" if plain in _MODULES_OWN else plain, taken)


def class_name(stem: str, taken: Container[str]) -> str:
    """``segnet_basic`` as ``SegnetBasic``."""
    words = re.split(r"[\W_]+", stem, flags=re.ASCII)
    name = "".join(word[:1].upper() + word[1:] for word in words)
    name = f"Net{name}" if not name or name[0].isdigit() else name
    return identifier(name, {*taken, "F"})


def variables(
    lines: Sequence[Assignment],
    stages: Sequence[int],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    taken: frozenset[str],
) -> dict[Value, str]:
    """A variable for each value, used again when nobody needs its value any more.

    Args:
        lines: the assignments in order.
        stages: for each of them its stage. A value that outlives its stage is named after its blob.
        inputs, outputs: they are named after their blobs too.
        taken: names of functions and classes.
    """
    last_use = {value: i for i, line in enumerate(lines) for value in (*line.targets, *line.arguments)}
    last_use |= dict.fromkeys([*inputs, *outputs], len(lines))
    blobs = {identifier(value.blob) for value in last_use}
    short = [name for name in _SHORT if name not in blobs and name not in taken]
    named: dict[Value, str] = {}
    holders: dict[str, Value] = {}

    def busy(i: int) -> set[str]:
        return {name for name, value in holders.items() if last_use[value] > i}

    def give(value: Value, i: int, name: str | None = None) -> None:
        name = name or identifier(value.blob[:_LONGEST], taken | busy(i))
        named[value], holders[name] = name, value

    for value in inputs:
        give(value, -1)
    for i, line in enumerate(lines):
        for value in line.targets:
            if value in named:
                continue
            last = last_use[value]
            outlives = last > i + 1 and (last == len(lines) or stages[last] != stages[i])
            free = next((name for name in short if name not in busy(i)), None)
            if not value.needed:
                named[value] = "_"
            else:
                give(value, i, None if outlives or value.kind or value in outputs else free)
    return named
