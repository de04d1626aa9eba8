"""Layers that give values another shape: Flatten, Reshape, Tile, Reduction."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import ReductionParameter


class SameValues(TorchLayer):
    """The bottom's own memory in another shape, as in Caffe: who writes into one blob writes into both."""

    def setup(self) -> None:
        """Refuse to be its own bottom."""
        if self.in_place:
            raise LayerError(f"the top {self.message.top[0]!r} is also the bottom; expected a top of another name")

    def new_shape(self, shape: Shape) -> Shape:
        """The top's shape for a bottom's. Raises LayerError."""
        raise NotImplementedError

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The new shape."""
        return [self.new_shape(tuple(bottoms[0]))]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Reshape."""
        (x,) = bottoms
        return x.reshape(self.new_shape(tuple(x.shape)))


@layer("Flatten")
class Flatten(SameValues):
    """Axes ``axis`` to ``end_axis`` as one, by default all but the first: (N, C, H, W) -> (N, C H W)."""

    def setup(self) -> None:
        """Read the axes."""
        super().setup()
        self.axis, self.end_axis = self.message.flatten_param.axis, self.message.flatten_param.end_axis

    def new_shape(self, shape: Shape) -> Shape:
        """The product of the axes in their place; 1 where the end stands just before the start."""
        first, last = canonical_axis(self.axis, len(shape)), canonical_axis(self.end_axis, len(shape))
        if last + 1 < first:
            raise LayerError(f"`axis: {self.axis}` and `end_axis: {self.end_axis}`; expected the end not before it")
        return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


@layer("Flatten", "deconvnet")
class FlattenToFourAxes(SameValues):
    """(N, C, H, W) -> (N, C H W, 1, 1), from the time when every blob had four axes."""

    def new_shape(self, shape: Shape) -> Shape:
        """All but the first axis on the second."""
        return (shape[0], math.prod(shape[1:]), 1, 1)


@layer("Reshape")
class Reshape(SameValues):
    """The axes from ``axis`` on (``num_axes`` of them, or all) replaced by ``shape``.

    In ``shape`` 0 stands for the bottom's own size on that axis, one -1 for whatever is left.
    """

    def setup(self) -> None:
        """Read the dims."""
        super().setup()
        param = self.message.reshape_param
        self.dims, self.axis, self.num_axes = tuple(param.shape.dim), param.axis, param.num_axes
        if min(self.dims, default=0) < -1 or self.dims.count(-1) > 1:
            raise LayerError(f"`shape` with the dims {self.dims}; expected sizes, 0 to keep one, and at most one -1")
        if self.num_axes < -1:
            raise LayerError(f"`num_axes: {self.num_axes}`; expected the number of axes to replace, or -1 for all")

    def _replaced(self, axes: int) -> tuple[int, int]:
        """The first axis that is replaced and the one after the last; -1 means the end of the shape."""
        start = self.axis if self.axis >= 0 else axes + self.axis + 1
        end = axes if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= end <= axes:
            raise LayerError(
                f"`axis: {self.axis}` and `num_axes: {self.num_axes}` for a bottom with {axes} axes; expected `axis` "
                f"from {-axes - 1} to {axes} and `num_axes` within what follows"
            )
        return start, end

    def new_shape(self, shape: Shape) -> Shape:
        """The dims put in, with what they stand for."""
        start, end = self._replaced(len(shape))
        copied = [start + i for i, dim in enumerate(self.dims) if dim == 0]
        if copied and copied[-1] >= len(shape):
            raise LayerError(
                f"`dim: 0` stands for axis {copied[-1]} of the bottom {shape}; expected an axis up to {len(shape) - 1}"
            )
        dims = [dim or shape[start + i] for i, dim in enumerate(self.dims)]
        rest = math.prod(shape[:start]) * math.prod(shape[end:])
        told = math.prod(dim for dim in dims if dim != -1) * rest
        count = math.prod(shape)
        if -1 in dims and told and count % told == 0:
            dims[dims.index(-1)] = count // told
        elif -1 in dims or told != count:
            raise LayerError(
                f"the bottom {shape} has {count} values, `shape` with the dims {self.dims} is for "
                f"{f'a multiple of {told}' if -1 in dims else told}; expected as many"
            )
        return (*shape[:start], *dims, *shape[end:])


@layer("Tile")
class Tile(TorchLayer):
    """The bottom ``tiles`` times one after another along ``axis``, by default along the channels."""

    def setup(self) -> None:
        """Read how often."""
        self.tiles = self.message.tile_param.tiles
        if self.tiles < 1:
            raise LayerError(f"`tiles: {self.tiles}`; expected at least 1")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The axis as many times as large."""
        (x,) = bottoms
        axis = canonical_axis(self.message.tile_param.axis, len(x))
        self.times = tuple(self.tiles if i == axis else 1 for i in range(len(x)))
        return [tuple(size * times for size, times in zip(x, self.times, strict=True))]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Repeat."""
        return bottoms[0].repeat(self.times)


def _sum_of_absolutes(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().sum(-1)


def _sum_of_squares(rows: torch.Tensor) -> torch.Tensor:
    return rows.square().sum(-1)


def _sum(rows: torch.Tensor) -> torch.Tensor:
    return rows.sum(-1)


def _mean(rows: torch.Tensor) -> torch.Tensor:
    return rows.mean(-1)


_REDUCTIONS = {
    ReductionParameter.SUM: _sum,
    ReductionParameter.ASUM: _sum_of_absolutes,
    ReductionParameter.SUMSQ: _sum_of_squares,
    ReductionParameter.MEAN: _mean,
}


@layer("Reduction")
class Reduction(TorchLayer):
    """``coeff`` times the sum, the mean, the sum of absolutes or of squares over all axes from ``axis`` on.

    bottom: x (N, C, ...)
    top:    the axes before ``axis``; without any, by default, a single value
    """

    def setup(self) -> None:
        """Read the operation."""
        param = self.message.reduction_param
        self.reduce, self.factor = _REDUCTIONS[param.operation], param.coeff

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """What stands before the axis."""
        (x,) = bottoms
        self.axis = canonical_axis(self.message.reduction_param.axis, len(x))
        return [tuple(x[: self.axis])]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Reduce."""
        return self.reduce(bottoms[0].flatten(self.axis)) * self.factor
