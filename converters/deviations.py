"""How far an array is from what was recorded, and how far it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from converters.record_file import Expected

TOLERANCE = 1e-4
"""Of a layer's values, as a share of the largest: rounding adds up to a quarter of it at most (docs/parity.md)."""
GRADIENT_TOLERANCE = 0.1
"""Of a gradient: values near zero in a ReLU choose another side, and deep nets with batch statistics enlarge that."""
LABELS = 0.99
"""The share of labels that must agree when nothing is forced."""
NEAR_TIES = 1e-3
"""The share of choices that may fall otherwise between (nearly) the same values; one always may."""
COUNTED = 1e-2
"""Of an accuracy, which counts choices."""


@dataclass
class Row:
    """One array that was compared."""

    layer: str
    kind: str
    """The layer's type."""
    what: str
    deviation: float
    """The largest, as a share of the largest recorded value; infinite where shapes or NaN differ."""
    allowed: float
    inherited: bool = False
    """Whether what the layer was fed deviates already."""
    reasons: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether it deviates too far."""
        return not self.deviation <= self.allowed


def bare(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its ones: the oldest Caffes know only four axes."""
    return tuple(dim for dim in shape if dim != 1)


def differing(values: torch.Tensor, want: Expected) -> float:
    """The share of values that are not the recorded ones, for layers that choose. Infinite where shapes differ."""
    if bare(values.shape) != bare(want.shape):
        return math.inf
    flat = values.detach().cpu().reshape(-1)
    got = flat if want.positions is None else flat[torch.from_numpy(want.positions)]
    return float((got.numpy() != want.values.ravel()).mean()) if got.numel() else 0.0


def deviation(values: torch.Tensor, want: Expected, scale: float = 0.0) -> float:
    """The largest deviation from recorded values, as a share of the largest of them (of ``scale`` if that is more).

    Of a sampled array also those of its minimum, its maximum, its mean and its mean absolute value. Infinite where
    shapes differ in more than axes of one, or where one is not finite and the other is.
    """
    if bare(values.shape) != bare(want.shape):
        return math.inf
    if not values.numel():
        return 0.0
    flat = values.detach().to(torch.float64).cpu().reshape(-1)
    if want.positions is None:
        got, recorded = flat.numpy(), want.values.ravel().astype(np.float64)
    else:
        mean = np.array([1 / values.numel(), 1 / values.numel(), 1, 1])
        totals = np.array([float(flat.sum()), float(flat.abs().sum()), float(flat.min()), float(flat.max())])
        got = np.concatenate([flat[torch.from_numpy(want.positions)].numpy(), totals * mean])
        recorded = np.concatenate([want.values, want.stats * mean])
    finite = np.isfinite(recorded)
    if not np.array_equal(np.isfinite(got), finite):
        return math.inf
    off = float(np.abs(got[finite] - recorded[finite]).max(initial=0))
    largest = max(want.scale, scale)
    return off / largest if largest else (math.inf if off else 0.0)
