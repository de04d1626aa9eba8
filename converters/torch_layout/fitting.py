"""A net's parameters as a reference's state dict."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tabulate import tabulate

from caffe_compat import Net
from caffe_compat.graph import Node
from converters.torch_layout.matching import Pairs, match
from converters.torch_layout.reference import Reference
from converters.torch_layout.units import FILTER, NORM, OTHER, Unit, units_of_net, units_of_state
from prototxt.errors import CaffeError


@dataclass
class Fitted:
    """What came of it."""

    state: dict[str, torch.Tensor]
    """The reference's keys, shapes and types with the net's values."""
    rows: list[tuple[str, str, str, str]]
    """Layers, module, shape and remarks."""

    def table(self) -> str:
        """What went where."""
        return tabulate(self.rows, ["layer", "module", "shape", "remark"], disable_numparse=True)


def fit(net: Net, reference: Reference) -> Fitted:
    """Put a net's parameters into the reference's state dict, so that its model computes what the net does.

    A BN or Scale without statistics, y = scale x + shift, becomes weight = scale, bias = shift, running_mean = 0 and
    running_var = 1 - eps; BatchNorm with its Scale becomes weight, bias, running_mean and running_var + eps - eps of
    the reference. BN with the batch's own statistics (LEARN) gives weight and bias, and leaves the statistics as the
    reference has them; so is left what is no filter, normalisation or slope. A bias that the reference lacks is taken
    from running_mean of the normalisation behind it, where it does the same; one that only the reference has is 0.

    Raises:
        CaffeError: with everything that does not fit.
    """
    ours, problems = units_of_net(net)
    theirs = units_of_state(reference.state)
    pairs = match(ours, theirs)
    problems += _unmatched(ours, theirs, pairs, reference)
    means = {} if problems else _homeless_biases(net, pairs, problems)
    state = dict(reference.state)
    rows = []
    with torch.no_grad():
        for unit, module in pairs.items() if not problems else ():
            values = _values(unit, module, reference, means, problems)
            for word in values.keys() & module.parts.keys():
                key, value = f"{module.name}.{word}".lstrip("."), values[word]
                state[key] = value.detach().to(reference.state[key]).reshape(reference.state[key].shape).clone()
            layers = " + ".join(node.layer.name for node in unit.nodes)
            shape = "×".join(map(str, unit.shape))
            rows.append((unit, (layers, module.name, shape, "; ".join(unit.remarks))))
    if problems:
        raise CaffeError(problems)
    rows.sort(key=lambda pair: ours.index(pair[0]))
    kept = [unit for unit in theirs if unit.kind == OTHER]
    told = [("", unit.name, "×".join(map(str, unit.shape)), "as the reference has it") for unit in kept]
    return Fitted(state, [row for _, row in rows] + told)


def _values(
    unit: Unit, module: Unit, reference: Reference, means: dict[Unit, torch.Tensor], problems: list[str]
) -> dict[str, torch.Tensor]:
    """Last word of the key → value. Adds remarks to the unit."""
    values = dict(unit.parts)
    if unit.kind == FILTER:
        if "bias" in module.parts and "bias" not in values:
            values["bias"] = torch.zeros_like(module.parts["bias"])
            unit.remarks.append("bias 0")
        elif "bias" in values and "bias" not in module.parts:
            del values["bias"]
    elif unit.kind == NORM:
        _normalisation(unit, module, reference, means, values, problems)
    return values


def _normalisation(
    unit: Unit,
    module: Unit,
    reference: Reference,
    means: dict[Unit, torch.Tensor],
    values: dict[str, torch.Tensor],
    problems: list[str],
) -> None:
    where = unit.nodes[0].where
    has_statistics = "running_var" in module.parts
    if "running_var" not in values:
        unit.remarks.append("statistics as the reference has them: the net takes the batch's")
    elif not has_statistics:
        problems.append(f"{where}: {reference.name}: {module.name!r} has no running_mean; expected running statistics")
    else:
        values["running_mean"] = values["running_mean"] - means.get(unit, 0)
        values["running_var"] = values["running_var"] + (unit.epsilon - reference.epsilon(module.name))
    if "weight" in module.parts:
        values.setdefault("weight", torch.ones_like(module.parts["weight"]))
        values.setdefault("bias", torch.zeros_like(module.parts["bias"]))
    elif "weight" in values:
        problems.append(f"{where}: {reference.name}: {module.name!r} has no weight and bias; expected `affine=True`")


def _homeless_biases(net: Net, pairs: Pairs, problems: list[str]) -> dict[Unit, torch.Tensor]:
    """Normalisation → the bias of the filter before it, where the reference's filter has none."""
    means: dict[Unit, torch.Tensor] = {}
    norms = {id(unit.nodes[0]): unit for unit in pairs if unit.kind == NORM}
    for unit, module in pairs.items():
        if unit.kind != FILTER or "bias" not in unit.parts or "bias" in module.parts:
            continue
        norm = norms.get(id(_only_reader(net, unit.nodes[0])))
        if norm is not None:
            means[norm] = unit.parts["bias"]
            unit.remarks.append(f"bias in {norm.name}")
        elif unit.parts["bias"].any():
            problems.append(
                f"{unit.nodes[0].where}: has a bias, {module.name!r} of the reference has none, and no normalisation "
                "takes its top alone; expected a module with a bias"
            )
    return means


def _only_reader(net: Net, node: Node) -> Node | None:
    """The layer that takes a layer's top, if there is one alone, or one that overwrites it first."""
    top = node.tops[0]
    later = net.graph.nodes[net.graph.nodes.index(node) + 1 :]
    reading = [other for other in later if top in other.bottoms]
    return reading[0] if reading and (len(reading) == 1 or top in reading[0].tops) else None


def _unmatched(ours: Sequence[Unit], theirs: Sequence[Unit], pairs: Pairs, reference: Reference) -> list[str]:
    """What found no counterpart or breaks the order, with what is near."""
    taken = set(pairs.values())
    left = [unit for unit in theirs if unit not in taken and unit.kind != OTHER]
    missing = [unit for unit in ours if unit not in pairs]
    missing, left = _out_of_line(missing, left)
    problems = [
        f"{unit.nodes[0].where}: {unit.kind} {tuple(unit.shape)} has no counterpart in {reference.name}; "
        f"{_near(unit, left)}"
        for unit in missing
    ]
    return problems + [
        f"{reference.name}: {unit.name!r}, {unit.kind} {tuple(unit.shape)}, has no counterpart in the net; "
        f"{_near(unit, missing)}"
        for unit in left
    ]


def _out_of_line(missing: list[Unit], left: list[Unit]) -> tuple[list[Unit], list[Unit]]:
    """Those that break the order: without them the others would be in line, kind by kind."""
    in_line: set[Unit] = set()
    for kind in {unit.kind for unit in missing}:
        one, other = ([unit for unit in side if unit.kind == kind] for side in (missing, left))
        shapes = [[unit.shape for unit in side] for side in (one, other)]
        for start, begin, size in difflib.SequenceMatcher(None, *shapes, autojunk=False).get_matching_blocks():
            in_line.update([*one[start : start + size], *other[begin : begin + size]])
    return [unit for unit in missing if unit not in in_line], [unit for unit in left if unit not in in_line]


def _near(unit: Unit, others: Sequence[Unit]) -> str:
    """The remedy: what is left on the other side and most alike."""
    same_kind = [other for other in others if other.kind == unit.kind]
    if not same_kind:
        return "expected one of the same kind, none is left"

    def alike(other: Unit) -> tuple[bool, float]:
        return other.shape == unit.shape, difflib.SequenceMatcher(None, unit.name, other.name).ratio()

    nearest = sorted(same_kind, key=alike, reverse=True)[:3]
    if nearest[0].shape == unit.shape:
        return f"several of this shape are left and order and names do not tell which: {', '.join(map(str, nearest))}"
    return f"nearest: {', '.join(map(str, nearest))}"
