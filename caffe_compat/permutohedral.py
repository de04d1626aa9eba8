"""High-dimensional Gaussian filtering on the permutohedral lattice (Adams, Baek and Davis, 2010).

Every point is spread over the d + 1 corners of the simplex that it lies in, the corners are blurred along each of the
lattice's d + 1 directions, and the points are gathered again. It approximates exp(-|f_i - f_j|² / 2).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from caffe_compat.errors import LayerError


class Lattice:
    """The lattice of a set of points: features (n, d), already divided by their standard deviations.

    It is found on the CPU. The values that it filters lie on the device.
    """

    def __init__(self, features: np.ndarray, device: torch.device | str = "cpu") -> None:
        points, dims = features.shape
        remainder, rank, weights = _enclosing_simplex(_elevated(features.astype(np.float64)), dims)
        codes, steps = _numbered(_corners(remainder, rank, dims).reshape(-1, dims))
        corners, place = np.unique(codes, return_inverse=True)
        self._place = torch.from_numpy(place.reshape(points, dims + 1)).to(device)
        self._weights = torch.from_numpy(weights[:, : dims + 1].astype(np.float32)).to(device)
        self._neighbours = [_neighbours(corners, step).to(device) for step in steps]
        self._size = len(corners)
        self._gain = 1 / (1 + 2.0**-dims)  # what the blur adds

    def filter(self, values: torch.Tensor) -> torch.Tensor:
        """values (n, c) → (n, c), the weighted sums over all points, the point itself included."""
        return _Filter.apply(values, self)

    def run(self, values: torch.Tensor, backward: bool) -> torch.Tensor:
        """Spread, blur and gather; the adjoint blurs in the opposite order."""
        weights = self._weights.to(values)[..., None]
        spread = values.new_zeros(self._size + 1, values.shape[1])  # the last is the neighbour that is not there
        spread.index_add_(0, self._place.flatten(), (weights * values[:, None]).flatten(0, 1))
        for first, second in reversed(self._neighbours) if backward else self._neighbours:
            around = spread[first] + spread[second]
            spread = torch.cat([spread[:-1] + 0.5 * around, spread[-1:]])
        return self._gain * (weights * spread[self._place]).sum(1)


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: torch.Tensor, lattice: Lattice) -> torch.Tensor:
        ctx.lattice = lattice
        return lattice.run(values, backward=False)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.lattice.run(gradient, backward=True), None


def _elevated(features: np.ndarray) -> np.ndarray:
    """The points (n, d + 1) on the hyperplane whose coordinates sum to zero; the blur becomes one of deviation 1."""
    dims = features.shape[1]
    axes = np.arange(1, dims + 1)
    scaled = features * (np.sqrt(2 / 3) * (dims + 1) / np.sqrt(axes * (axes + 1)))
    later = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]  # sums from each axis to the last
    elevated = np.empty((len(features), dims + 1))
    elevated[:, 0] = later[:, 0]
    elevated[:, 1:-1] = later[:, 1:]
    elevated[:, -1] = 0
    elevated[:, 1:] -= axes * scaled
    return elevated


def _enclosing_simplex(elevated: np.ndarray, dims: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest lattice point of remainder 0, the order of the differences to it, and barycentric weights."""
    step = dims + 1
    remainder = step * np.rint(elevated / step)
    excess = np.rint(remainder.sum(1) / step).astype(int)[:, None]
    difference = elevated - remainder
    order = np.argsort(-difference, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(step)[None], axis=1)
    rank += excess  # back onto the hyperplane: those that are furthest off move by one step
    low, high = rank < 0, rank > dims
    remainder += step * low - step * high
    rank += step * low - step * high
    fraction = (elevated - remainder) / step
    weights = np.zeros((len(elevated), step + 1))
    rows = np.arange(len(elevated))[:, None]
    np.add.at(weights, (rows, dims - rank), fraction)
    np.add.at(weights, (rows, dims + 1 - rank), -fraction)
    weights[:, 0] += 1 + weights[:, step]
    return remainder.astype(int), rank, weights


def _corners(remainder: np.ndarray, rank: np.ndarray, dims: int) -> np.ndarray:
    """The keys (n, d + 1, d) of the corners; the last coordinate follows from the others."""
    corner = np.arange(dims + 1)[None, :, None]
    shift = np.where(rank[:, None, :dims] <= dims - corner, corner, corner - (dims + 1))
    return remainder[:, None, :dims] + shift


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each key (n, d), and by how much it grows along each of the d + 1 directions.

    Raises:
        LayerError: the points lie too far apart to be numbered.
    """
    dims = keys.shape[1]
    low, high = keys.min(0) - dims - 1, keys.max(0) + dims + 1  # neighbours included
    radix = [1, *(int(size) for size in (high - low + 1)[:-1])]
    if math.prod(radix) * int(high[-1] - low[-1] + 1) >= 2**62:
        raise LayerError("the standard deviations are too small for this image; expected larger ones")
    factors = np.cumprod(np.array(radix, np.int64))
    directions = np.concatenate([np.eye(dims, dtype=np.int64) * (dims + 1), np.zeros((1, dims), np.int64)]) - 1
    return (keys - low) @ factors, directions @ factors


def _neighbours(corners: np.ndarray, step: int) -> torch.Tensor:
    """The indices (2, corners) of the neighbours on both sides; the number of corners where there is none."""
    both = []
    for wanted in (corners + step, corners - step):
        index = np.searchsorted(corners, wanted).clip(max=len(corners) - 1)
        both.append(np.where(corners[index] == wanted, index, len(corners)))
    return torch.from_numpy(np.stack(both))
