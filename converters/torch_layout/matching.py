"""Which layer is which module: by name, by what stands before, in order, by shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from converters.torch_layout.units import FILTER, Unit

Pairs = dict[Unit, Unit]


def match(ours: Sequence[Unit], theirs: Sequence[Unit]) -> Pairs:
    """Layer → module, as far as they can be told. Each pair is of one kind and one shape.

    1. A module whose path contains the layer's name (``encoder.conv1_1`` or ``conv1.1.conv`` for ``conv1_1``), where
       there is one such on each side.
    2. What follows a filter up to the next one, where the filters are known and the same things follow on both sides.
    3. In order, kind by kind, where as many are left on both sides and every shape fits.
    4. Where only one layer and one module of a shape are left; what then remains again in order.
    """
    pairs: Pairs = {}
    _named(ours, theirs, pairs)
    kinds = sorted({unit.kind for unit in ours}, key=lambda kind: kind != FILTER)
    for kind in kinds:
        mine, other = (_left([unit for unit in side if unit.kind == kind], pairs) for side in (ours, theirs))
        if kind != FILTER:
            _following(ours, theirs, pairs)
            mine, other = _left(mine, pairs), _left(other, pairs)
        if not _in_order(mine, other, pairs):
            _unique(mine, other, pairs, lambda unit: unit.shape)
            _in_order(_left(mine, pairs), _left(other, pairs), pairs)
    return pairs


def _left(units: Sequence[Unit], pairs: Pairs) -> list[Unit]:
    taken = {*pairs, *pairs.values()}
    return [unit for unit in units if unit not in taken]


def _in_order(ours: Sequence[Unit], theirs: Sequence[Unit], pairs: Pairs) -> bool:
    """Pair all, if the shapes are the same one after the other. Returns whether they are."""
    fits = [unit.shape for unit in ours] == [unit.shape for unit in theirs]
    if fits:
        pairs.update(zip(ours, theirs, strict=True))
    return fits


def _named(ours: Sequence[Unit], theirs: Sequence[Unit], pairs: Pairs) -> None:
    """Pair what has one name, kind and shape that nothing else on its side has."""
    found: dict[Hashable, list[Unit]] = {}
    for unit in theirs:
        for name in _names_in(unit.name):
            found.setdefault((unit.kind, unit.shape, name), []).append(unit)
    keys = [(unit.kind, unit.shape, _plain(unit.name)) for unit in ours]
    counts = Counter(keys)
    named = {
        unit: found[key][0] for unit, key in zip(ours, keys, strict=True) if len(found.get(key, ())) == counts[key] == 1
    }
    taken = Counter(named.values())
    pairs.update({unit: module for unit, module in named.items() if taken[module] == 1})


def _names_in(path: str) -> set[str]:
    """Every run of words in a module's path, in plain letters and digits."""
    words = [_plain(word) for word in path.split(".")]
    return {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


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
