"""Which layers of a net take part, by their include and exclude rules (Caffe: Net::FilterNet)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from prototxt.caffe_pb2 import NetParameter, NetStateRule
from prototxt.errors import FormatError


def filter_net(
    net: NetParameter, phase: int, level: int = 0, stages: Sequence[str] = ()
) -> tuple[NetParameter, list[int]]:
    """The net without the layers that its state leaves out, and the indices of those kept.

    A layer with ``include`` rules takes part when one of them holds; one with ``exclude`` rules when none holds.
    The level and the stages that the net itself writes in ``state`` count too; its phase does not (Caffe: Net::Net).

    Args:
        net: of the current generation.
        phase: TRAIN or TEST.
        level: compared with ``min_level`` and ``max_level``; 0 leaves it to the net.
        stages: compared with ``stage`` and ``not_stage``, beside the net's own.

    Raises:
        FormatError: layers with both kinds of rules.
    """
    both = [layer.name for layer in net.layer if layer.include and layer.exclude]
    if both:
        raise FormatError(
            [f"layer {name!r}: both `include` and `exclude` rules; expected rules of one kind" for name in both]
        )
    level = level or net.state.level
    stages = {*stages, *net.state.stage}
    kept = []
    for index, layer in enumerate(net.layer):
        held = any(_holds(rule, phase, level, stages) for rule in (layer.include or layer.exclude))
        if held == bool(layer.include):
            kept.append(index)
    filtered = NetParameter()
    filtered.CopyFrom(net)
    del filtered.layer[:]
    filtered.layer.extend(net.layer[index] for index in kept)
    return filtered, kept


def _holds(rule: NetStateRule, phase: int, level: int, stages: Collection[str]) -> bool:
    """Whether everything that a rule says is so."""
    return (
        (not rule.HasField("phase") or rule.phase == phase)
        and (not rule.HasField("min_level") or level >= rule.min_level)
        and (not rule.HasField("max_level") or level <= rule.max_level)
        and all(stage in stages for stage in rule.stage)
        and not any(stage in stages for stage in rule.not_stage)
    )
