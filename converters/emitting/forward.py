"""The lines of ``__init__`` and ``forward``."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.emitting import parts
from converters.emitting.applying import apply_rules
from converters.emitting.layout import WIDTH, statement
from converters.emitting.modules import modules
from converters.emitting.naming import identifier, variables
from converters.emitting.plan import Assignment, Plan, Step, Value
from converters.emitting.stages import stages
from converters.emitting.writing import shape_text

#: Types that are written around the layer before them, as Caffe's in-place layers are.
_AROUND = ("BN", "BatchNorm", "Bias", "ELU", "PReLU", "ReLU", "Scale")
_INDENT = 8
_PLACE = re.compile(r"\{(\d+)\}")


@dataclass
class Forward:
    """What a plan became."""

    init: list[str]
    """Lines of ``__init__`` after its first one."""
    lines: list[str]
    """Lines of ``forward`` but the return."""
    names: Mapping[Value, str]
    """The variables of inputs, outputs and what lies between."""
    renamed: Mapping[str, str]
    """Attribute → key of the layer in ``Net.layer``, where they differ."""


def forward(plan: Plan) -> Forward:
    """Write the lines. Raises CannotEmit with every layer that cannot be emitted."""
    apply_rules(plan)
    numbers, titles = stages(plan.steps)
    stage = dict(zip(plan.steps, numbers, strict=True))
    held = modules(plan.steps)
    init = [(stage[step], statement(_INDENT, f"self.{name} = ", made)) for step, name, made in held.lines]
    lines = list(_fused(plan, held.attributes))
    assignments = [line for line, _ in lines]
    numbers = [stage[step] for _, step in lines]
    names = variables(assignments, numbers, plan.inputs, plan.outputs, frozenset(vars(parts)))
    body = []
    for (targets, template, arguments), number in zip(assignments, numbers, strict=True):
        expression = _filled(template, [names[value] for value in arguments])
        comment = "" if targets[0].kind == "size" else shape_text(targets[0].shape, plan.batch)
        left = f"{', '.join(names[value] for value in targets)} = "
        body.append((number, statement(_INDENT, left, expression, comment)))
    return Forward(_titled(init, titles, first=True), _titled(body, titles), names, held.renamed)


def _titled(blocks: Sequence[tuple[int, list[str]]], titles: Sequence[str], first: bool = False) -> list[str]:
    """Lines with the title of each stage before its first one; ``first``: an empty line before the first title too."""
    lines: list[str] = []
    told = None
    for number, block in blocks:
        if number != told and titles[number]:
            lines += [""] * bool(lines or first) + [f"{' ' * _INDENT}# {titles[number]}"]
        lines += block
        told = number
    return lines


def _filled(template: str, names: Sequence[str]) -> str:
    return _PLACE.sub(lambda place: names[int(place[1])], template)


def _fused(plan: Plan, attributes: Mapping[Step, str]) -> Iterator[tuple[Assignment, Step]]:
    """The assignments of all steps; activations, normalisations and layers in place stand around what they work on.

    Each with its first step.
    """
    uses = Counter(value for step in plan.steps for line in step.lines for value in line.arguments)
    uses.update(plan.outputs)
    last: tuple[Assignment, Step] | None = None
    for step in plan.steps:
        own = f"self.{attributes[step]}" if step in attributes else ""
        for line in step.lines:
            line = line._replace(template=line.template.replace("{self}", own))
            is_around = step.in_place or step.layer.type in _AROUND
            whole = last and is_around and _around(last[0], line, uses)
            if last and whole:
                last = whole, last[1]
                continue
            if last:
                yield last
            last = line, step
    if last:
        yield last


def _around(inner: Assignment, outer: Assignment, uses: Counter[Value]) -> Assignment | None:
    """Two assignments as one, where nothing else reads the first one's value and the line is not too long."""
    (made, *others), places = inner.targets, outer.template.count("{0}")
    if others or len(outer.targets) > 1 or not outer.arguments or outer.arguments[0] is not made:
        return None
    if places != 1 or uses[made] > 1 or not isinstance(_parsed(inner.template), ast.Call):
        return None
    count = len(inner.arguments)
    moved = _PLACE.sub(lambda place: f"{{{int(place[1]) + count - 1}}}" if place[1] != "0" else "{0}", outer.template)
    template = re.sub(r"\{0\}", lambda _: inner.template, moved, count=1)
    arguments = (*inner.arguments, *outer.arguments[1:])
    length = len(_filled(template, [identifier(value.blob) for value in arguments]))
    if _INDENT + len(identifier(outer.targets[0].blob)) + len(" = ") + length > WIDTH:
        return None
    return Assignment(outer.targets, template, arguments)


def _parsed(template: str) -> ast.expr:
    return ast.parse(_PLACE.sub("x", template), mode="eval").body
