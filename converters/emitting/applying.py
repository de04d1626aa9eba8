"""The rules of the layer types, applied to a plan."""

from __future__ import annotations

from converters.emitting import registry
from converters.emitting.plan import Assignment, CannotEmit, Plan, Step, Value

#: Types that take a pooling's positions as the integers that torch has; to others they are floats, as in Caffe.
_TAKES_PLACES = ("Unpooling", "Upsample")


def apply_rules(plan: Plan) -> None:
    """Give every step its lines. Raises CannotEmit with every layer that cannot be emitted."""
    problems: list[str] = []
    for step in plan.steps:
        rule = registry.find(step.layer.type)
        if rule is None:
            problems.append(f"{step.node.where}: this type cannot be emitted")
            continue
        step.bottoms = [_origin(value) for value in step.bottoms]
        if step.layer.type not in _TAKES_PLACES:
            step.bottoms = [_as_floats(value, step) for value in step.bottoms]
        try:
            rule(step)
        except CannotEmit as error:
            problems += [f"{step.node.where}: {problem}" for problem in error.problems]
    if problems:
        raise CannotEmit(problems, f"Types that can be emitted: {', '.join(registry.known_types())}, Silence, Split.")
    plan.outputs = [_as_floats(_origin(value), plan.steps[-1]) for value in plan.outputs]


def _origin(value: Value) -> Value:
    """The value itself where a layer passes it on as it is."""
    return value if value.same_as is None else _origin(value.same_as)


def _as_floats(value: Value, step: Step) -> Value:
    if value.kind != "places":
        return value
    floats = Value(value.blob, value.shape, step, needed=True)
    step.lines.append(Assignment((floats,), "{0}.float()", (value,)))
    return floats
