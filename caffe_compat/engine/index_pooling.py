"""Pooling in windows of 2×2 whose maxima are remembered in one byte each, and putting values back at those places.

torch's own pooling gives flat positions of 64 bits, and its unpooling takes them. What is kept of a position is how far
it is from the first place of its window, in the lowest byte: 0 or 1 in the window's first row, and in its second row
the same beyond a step, the plane's width. Strips of rows are small enough for the 64 bits to stay in the cache.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from caffe_compat.engine.rows import Rows

_BYTE = 256


def _step(width: int) -> int:
    """What stands for the width in a byte: its lowest byte, unless that cannot be told from 0 and 1."""
    return width % _BYTE if 2 <= width % _BYTE < _BYTE - 1 else 2


@lru_cache(maxsize=64)
def _corners(rows: int, columns: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The flat position of the first place of each window: (1, 1, rows, columns); in a byte its lowest one."""
    first = torch.arange(rows)[:, None] * 2 * width + torch.arange(columns) * 2
    return first.to(device, dtype)[None, None]


def pool(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The maxima of windows of 2×2, and their places: x (N, C, H, W) to two of (N, C, ceil(H / 2), ceil(W / 2)).

    Of equal maxima the first in row order (Caffe: PoolingLayer). The places are uint8, for ``unpool``.
    """
    y, positions = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    return y, places_of(positions, x.shape[3])


def places_of(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Flat positions (N, C, h, w) in a plane of this width, in bytes."""
    rows, columns = positions.shape[2:]
    if _step(width) == width % _BYTE:
        return positions.to(torch.uint8).sub_(_corners(rows, columns, width, torch.uint8, positions.device))
    places = positions.to(torch.int32).sub_(_corners(rows, columns, width, torch.int32, positions.device))
    return places.sub_(places.gt(1).mul(width - _step(width))).to(torch.uint8)


def unpool(y: torch.Tensor, places: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Values back at their places, zero elsewhere: y (N, C, h, w) to (N, C, height, width) (paper, section 3)."""
    step = _step(width)
    positions = places.to(torch.int32)  # 64 bits are twice the memory to go through
    if step != width:
        second = positions.add(max(0, _BYTE // 2 - step)).bitwise_right_shift_(7)  # 1 in a window's second row
        positions.add_(second, alpha=width - step)
    positions = positions.add_(_corners(*y.shape[2:], width, torch.int32, y.device)).to(torch.int64)
    return F.max_unpool2d(y, positions, 2, 2, output_size=(height, width))


class Unpool:
    """``unpool`` by rows."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)

    def height(self, height: int) -> int:
        """That of the plane that was pooled."""
        return self.size[0]

    def needs(self, wanted: Rows, height: int) -> Rows:
        """Half as many."""
        return Rows(wanted.first // 2, (wanted.end + 1) // 2)

    def __call__(
        self, pooled: tuple[torch.Tensor, torch.Tensor], held: Rows, wanted: Rows, height: int
    ) -> torch.Tensor:
        """The wanted rows of the plane, from values and places."""
        rows = self.needs(wanted, height)
        y, places = (part[:, :, rows.first - held.first : rows.end - held.first] for part in pooled)
        made = Rows(2 * rows.first, min(2 * rows.end, self.size[0]))
        plane = unpool(y, places, made.end - made.first, self.size[1])
        return plane[:, :, wanted.first - made.first : wanted.end - made.first]


class Pool:
    """``pool`` by rows, with the places or without."""

    def __init__(self, with_places: bool) -> None:
        self.with_places = with_places

    def height(self, height: int) -> int:
        """Half, rounded up (Caffe)."""
        return (height + 1) // 2

    def needs(self, wanted: Rows, height: int) -> Rows:
        """Twice as many."""
        return Rows(2 * wanted.first, 2 * wanted.end).within(height)

    def __call__(self, x: torch.Tensor, held: Rows, wanted: Rows, height: int) -> tuple[torch.Tensor, ...]:
        """The wanted rows of maxima, and places."""
        rows = self.needs(wanted, height)
        x = x[:, :, rows.first - held.first : rows.end - held.first]
        return pool(x) if self.with_places else (F.max_pool2d(x, 2, 2, ceil_mode=True),)
