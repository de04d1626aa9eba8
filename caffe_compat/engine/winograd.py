"""3×3 convolutions by Winograd's F(4×4, 3×3): 36 products where 144 multiplications stand, for each tile and channel.

A tile of 6×6 values gives 4×4 of the output: both are transformed by constant matrices, between them there is one
matrix product for each of the 36 places. The weights are transformed once, and take four times the memory.

Source of the method: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016). The matrices are those
of Toom and Cook, for the points below and infinity. With the usual points, 0, ±1 and ±2, rounding is twice as large:
1.4e-6 of the values' deviation against 0.7e-6 here and 0.16e-6 of the direct sum (64 channels, random values).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.polynomial import polynomial

from caffe_compat.engine.rows import Rows

_TILE, _STEP = 6, 4
_CHUNK = 4 << 20  # bytes of transformed values at a time, which stay in the cache
_POINTS = (0, 0.75, -0.75, 1.5, -1.5)


def _matrices() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What transforms flattened tiles: of values (36, 36), filters (36, 9) and products (16, 36), in float64.

    In one axis the transformed filter holds its polynomial's values at the points, the input one of polynomials that
    vanish at all other points.
    """
    values, filters = np.zeros((_TILE, _TILE)), np.zeros((_TILE, 3))
    products = np.zeros((_STEP, _TILE))
    for i, point in enumerate(_POINTS):
        others = [other for other in _POINTS if other != point]
        values[i, :-1] = polynomial.polyfromroots(others)
        filters[i] = point ** np.arange(3) / np.prod([point - other for other in others])
        products[:, i] = point ** np.arange(_STEP)
    values[-1] = polynomial.polyfromroots(_POINTS)
    filters[-1, -1] = products[-1, -1] = 1
    return tuple(torch.from_numpy(np.kron(one, one)) for one in (values, filters, products))


class WinogradConvolution:
    """A 3×3 convolution of stride 1 and padding 1 in float32, with its bias and perhaps a ReLU, by rows.

    Args:
        weight: (outputs, inputs, 3, 3).
        bias: (outputs,), or None.
        relu: whether negative values become zero.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        self.bias, self.relu = bias, relu
        into, filters, out_of = _matrices()
        self.into, self.out_of = into.float(), out_of.float()
        self.weight = torch.empty(_TILE * _TILE, self.inputs, self.outputs)
        for part in torch.arange(self.outputs).split(64):  # float64 of all at once would be the largest array around
            self.weight[:, :, part] = torch.einsum("tk,oik->tio", filters, weight[part].double().flatten(2)).float()

    def height(self, height: int) -> int:
        """The same."""
        return height

    def needs(self, wanted: Rows, height: int) -> Rows:
        """One more above and below."""
        return Rows(wanted.first - 1, wanted.end + 1).within(height)

    def __call__(self, x: torch.Tensor, held: Rows, wanted: Rows, height: int) -> torch.Tensor:
        """Convolve."""
        images, _, _, width = x.shape
        rows = wanted.end - wanted.first
        made = x.new_empty(images, rows, width, self.outputs)
        across = -(-width // _STEP)
        row = across * _TILE * _TILE * max(self.inputs, self.outputs)
        down = max(1, _CHUNK // (4 * row))
        scratch = x.new_empty(2, min(down, -(-rows // _STEP)) * row)
        for image in range(images):
            plane = x[image].permute(1, 2, 0)
            for first in range(0, rows, down * _STEP):
                part = made[image, first : first + down * _STEP]
                start = wanted.first + first - 1
                needed = Rows(start, start + part.shape[0] + 2).within(height)
                tiles = -(-part.shape[0] // _STEP)
                self._product(self._padded(plane, held, needed, start, tiles, across), part, scratch)
        return made.permute(0, 3, 1, 2)

    def _padded(
        self, plane: torch.Tensor, held: Rows, needed: Rows, start: int, down: int, across: int
    ) -> torch.Tensor:
        """What so many tiles stand on, of a plane (H, W, C) with zeros around it: (4 down + 2, 4 across + 2, C)."""
        padded = plane.new_empty(_STEP * down + 2, _STEP * across + 2, self.inputs)
        above, below = needed.first - start, needed.end - start
        inside = padded[above:below]
        inside[:, 1 : plane.shape[1] + 1].copy_(plane[needed.first - held.first : needed.end - held.first])
        for edge in (padded[:above], padded[below:], inside[:, :1], inside[:, plane.shape[1] + 1 :]):
            edge.zero_()
        return padded

    def _product(self, padded: torch.Tensor, part: torch.Tensor, scratch: torch.Tensor) -> None:
        """From rows of the input to rows of the output (rows, W, outputs). The scratch takes a step's values each."""
        down, across = (size // _STEP for size in padded.shape[:2])
        count, places, inputs, outputs = down * across, _TILE * _TILE, self.inputs, self.outputs

        def taken(of: int, *shape: int) -> torch.Tensor:
            return scratch[of][: math.prod(shape)].view(shape)

        into, out_of = (matrix.expand(count, *matrix.shape) for matrix in (self.into, self.out_of))
        row = padded.shape[1] * inputs
        shape, steps = (down, across, _TILE, _TILE * inputs), (_STEP * row, _STEP * inputs, row, 1)
        tiles = taken(0, *shape).copy_(padded.as_strided(shape, steps)).view(count, places, inputs)
        values = torch.bmm(into, tiles, out=taken(1, count, places, inputs))
        products = torch.bmm(values.transpose(0, 1), self.weight, out=taken(0, places, count, outputs))
        done = torch.bmm(out_of, products.transpose(0, 1), out=taken(1, count, _STEP * _STEP, outputs))
        whole = done.view(down, across, _STEP, _STEP, outputs).permute(0, 2, 1, 3, 4)
        rows, width = part.shape[:2]
        if (rows, width) == (down * _STEP, across * _STEP):
            part.view(down, _STEP, across, _STEP, outputs).copy_(whole)
        else:
            part.copy_(whole.reshape(down * _STEP, across * _STEP, outputs)[:rows, :width])
        if self.bias is not None:
            part.add_(self.bias)
        if self.relu:
            part.relu_()
