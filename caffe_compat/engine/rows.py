"""Operators on rows of a plane, and running a chain of them strip by strip.

All tensors are (N, C, H, W) with their channels last in memory, so that rows of one image lie together. Rows are
counted in the whole plane. A chain that is run in strips never has a whole plane of what lies between its operators,
which is most of a segmentation net's memory, and finds it still in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch

#: Bytes of a strip, at most: it fits the cache. Half as large costs time, twice as large memory.
STRIP = 6 << 20


class Rows(NamedTuple):
    """Rows from ``first`` up to, not including, ``end``."""

    first: int
    end: int

    def within(self, height: int) -> Rows:
        """Those of them that a plane of this height has."""
        return Rows(max(self.first, 0), min(self.end, height))


class RowOperator(Protocol):
    """An operator whose rows are made of a few rows of its input."""

    def height(self, height: int) -> int:
        """How many rows it makes of a plane of so many."""

    def needs(self, wanted: Rows, height: int) -> Rows:
        """The rows of its input, a plane of so many, that the wanted ones are made of."""

    def __call__(self, x: Any, held: Rows, wanted: Rows, height: int) -> Any:
        """The wanted rows, from those ``held`` of an input of ``height`` rows: a tensor, or values with places."""


Parts = tuple[torch.Tensor, ...]


def run_chain(operators: Sequence[RowOperator], inputs: Parts, strips: int) -> Parts:
    """One operator after the other, for one strip of the last one's rows after the other.

    Args:
        operators: a chain.
        inputs: of the first: one tensor (N, C, H, W), or values and places.
        strips: how many; with more than one, each image goes by itself, as its rows lie together only then.

    Returns:
        What the last one makes, whole.
    """
    heights = [inputs[0].shape[2]]
    for operator in operators:
        heights.append(operator.height(heights[-1]))
    if strips == 1:
        return _strip(operators, inputs, heights, Rows(0, heights[-1]))
    whole: Parts = ()
    bounds = [heights[-1] * i // strips for i in range(strips + 1)]
    for image in range(inputs[0].shape[0]):
        one = tuple(part[image : image + 1] for part in inputs)
        for first, end in pairwise(bounds):
            made = _strip(operators, one, heights, Rows(first, end))
            whole = whole or _planes_for(made, inputs[0].shape[0], heights[-1])
            for plane, part in zip(whole, made, strict=True):
                plane[image : image + 1, :, first:end].copy_(part)
            del made, part  # before the next strip is made
    return whole


def _strip(operators: Sequence[RowOperator], inputs: Parts, heights: Sequence[int], wanted: Rows) -> Parts:
    spans = [wanted]
    for operator, height in zip(reversed(operators), reversed(heights[:-1]), strict=True):
        spans.append(operator.needs(spans[-1], height))
    spans.reverse()
    held = spans[0]
    x: Any = tuple(part[:, :, held.first : held.end] for part in inputs)
    for operator, height, have, want in zip(operators, heights, spans, spans[1:], strict=False):
        x = operator(x if len(x) > 1 else x[0], have, want, height)
        x = x if isinstance(x, tuple) else (x,)
    return x


def _planes_for(parts: Parts, images: int, height: int) -> Parts:
    def empty(part: torch.Tensor) -> torch.Tensor:
        shape = (images, part.shape[1], height, part.shape[3])
        return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)

    return tuple(empty(part) for part in parts)
