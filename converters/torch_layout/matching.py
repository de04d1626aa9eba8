"""Which layer is which module: by name, by what stands before, in order, by shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from converters.torch_layout.units import FILTER, Unit

Pairs = dict[Unit, Unit]


def match(ours: Sequence[Unit], theirs: Sequence[Unit]) -> Pairs:
    """Layer → module, as far as they can be told. Each pair is of one kind and one shape.

    1. A module whose path ends in the layer's name, where there is one such on each side.
    2. What follows a filter up to the next one, where the filters are known and the same things follow on both sides.
    3. In order, kind by kind, where as many are left on both sides and every shape fits.
    4. Where only one layer and one module of a shape are left.
    """
    pairs: Pairs = {}
    _unique(ours, theirs, pairs, lambda unit: (unit.kind, unit.shape, _last_word(unit)))
    kinds = sorted({unit.kind for unit in ours}, key=lambda kind: kind != FILTER)
    for kind in kinds:
        mine, other = (_left([unit for unit in side if unit.kind == kind], pairs) for side in (ours, theirs))
        if kind != FILTER:
            _following(ours, theirs, pairs)
            mine, other = _left(mine, pairs), _left(other, pairs)
        if [unit.shape for unit in mine] == [unit.shape for unit in other]:
            pairs.update(zip(mine, other, strict=True))
        else:
            _unique(mine, other, pairs, lambda unit: unit.shape)
    return pairs


def _left(units: Sequence[Unit], pairs: Pairs) -> list[Unit]:
    taken = {*pairs, *pairs.values()}
    return [unit for unit in units if unit not in taken]


def _last_word(unit: Unit) -> str:
    return re.sub(r"[\W_]", "", unit.name.rpartition(".")[2]).casefold()


def _unique(ours: Sequence[Unit], theirs: Sequence[Unit], pairs: Pairs, key: Callable[[Unit], Hashable]) -> None:
    """Pair what has a key that nothing else on its side has."""
    counts = [Counter(map(key, side)) for side in (ours, theirs)]
    by_key = {key(unit): unit for unit in theirs}
    for unit in ours:
        if counts[0][key(unit)] == counts[1][key(unit)] == 1:
            pairs[unit] = by_key[key(unit)]


def _following(ours: Sequence[Unit], theirs: Sequence[Unit], pairs: Pairs) -> None:
    """Pair what follows filters that are paired."""
    after = _chains(theirs)
    taken = set(pairs.values())
    for unit, chain in _chains(ours).items():
        other = after.get(pairs[unit], []) if unit in pairs else []
        if [(one.kind, one.shape) for one in chain] == [(one.kind, one.shape) for one in other]:
            for one, their in zip(chain, other, strict=True):
                if one not in pairs and their not in taken:
                    pairs[one] = their


def _chains(units: Sequence[Unit]) -> dict[Unit, list[Unit]]:
    """Each filter and what follows it up to the next one."""
    chains: dict[Unit, list[Unit]] = {}
    for unit in units:
        if unit.kind == FILTER:
            chains[unit] = []
        elif chains:
            chains[next(reversed(chains))].append(unit)
    return chains
