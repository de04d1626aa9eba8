"""The translating functions; importing this package registers them all."""

from converters.tracing.rules import (
    activations,
    arithmetic,
    choosing,
    filters,
    joining,
    norms,
    passing,
    pools,
    resizing,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "choosing",
    "filters",
    "joining",
    "norms",
    "passing",
    "pools",
    "resizing",
    "shapes",
]
