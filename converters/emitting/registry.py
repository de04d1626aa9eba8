"""Which rule writes the source of which layer type."""

from __future__ import annotations

from collections.abc import Callable

from converters.emitting.plan import Step

#: Fills a step's ``lines`` and ``modules``. Raises CannotEmit with the reason where it cannot; the place is added.
Rule = Callable[[Step], None]

_rules: dict[str, Rule] = {}


def emits(*types: str) -> Callable[[Rule], Rule]:
    """Register a rule for layer types."""

    def register(rule: Rule) -> Rule:
        _rules.update(dict.fromkeys(types, rule))
        return rule

    return register


def find(kind: str) -> Rule | None:
    """The rule for a type, or None."""
    return _rules.get(kind)


def known_types() -> list[str]:
    """The types that can be emitted, sorted."""
    return sorted(_rules)
