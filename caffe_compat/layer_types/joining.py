"""Layers that join blobs or take one apart: Concat, Slice, Eltwise, SpatialProduct."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from google.protobuf.message import Message

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import EltwiseParameter


def axis_of(param: Message, old_name: str, axes: int) -> int:
    """The axis that ``axis`` or the older field names. Raises LayerError."""
    if param.HasField(old_name) and param.HasField("axis"):
        raise LayerError(f"both `axis` and `{old_name}` are given; expected `axis` alone")
    return canonical_axis(getattr(param, old_name) if param.HasField(old_name) else param.axis, axes)


@layer("Concat")
class Concat(TorchLayer):
    """Blobs one after another along ``axis`` (``concat_dim`` in older files); by default along the channels.

    bottoms: any number, alike but for their size on the axis
    top:     the sizes on the axis added up
    """

    bottoms = (1, None)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The first bottom's shape with the sum on the axis."""
        first = tuple(bottoms[0])
        self.axis = axis = axis_of(self.message.concat_param, "concat_dim", len(first))
        if len({(*shape[:axis], *shape[axis + 1 :], len(shape)) for shape in bottoms}) > 1:
            raise LayerError(
                f"the bottoms have the shapes {[tuple(shape) for shape in bottoms]}; expected them alike on every axis "
                f"but {axis}"
            )
        return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Join."""
        return torch.cat(bottoms, dim=self.axis)


@layer("Concat", "segnet", "deconvnet")
class ConcatOfSeveral(Concat):
    """The older Caffe joins at least two."""

    bottoms = (2, None)


@layer("Slice")
class Slice(TorchLayer):
    """A blob in parts along ``axis`` (``slice_dim`` in older files); by default along the channels.

    bottom: x
    tops:   any number; cut at each ``slice_point``, or into equal parts where there is none
    """

    tops = (1, None)

    def setup(self) -> None:
        """Read the points."""
        self.points = list(self.message.slice_param.slice_point)
        if self.points and len(self.points) != self.top_count - 1:
            raise LayerError(
                f"{len(self.points)} times `slice_point` for {self.top_count} tops; expected {self.top_count - 1}, or "
                "none for equal parts"
            )

    def _parts(self, size: int) -> list[int]:
        """The sizes of the tops on the axis."""
        if not self.points:
            if size % self.top_count:
                raise LayerError(f"{size} values on axis {self.axis} for {self.top_count} tops; expected a multiple")
            return [size // self.top_count] * self.top_count
        parts = [after - before for before, after in itertools.pairwise([0, *self.points, size])]
        if min(parts) < 1:
            raise LayerError(
                f"cut at {self.points} on axis {self.axis} with {size} values; expected rising points from 1 to "
                f"{size - 1}"
            )
        return parts

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's shape with each part's size on the axis."""
        (x,) = bottoms
        self.axis = axis_of(self.message.slice_param, "slice_dim", len(x))
        return [(*x[: self.axis], part, *x[self.axis + 1 :]) for part in self._parts(x[self.axis])]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Cut."""
        (x,) = bottoms
        parts = x.split(self._parts(x.shape[self.axis]), dim=self.axis)
        # copies, as in Caffe: a later in-place layer must not reach the bottom
        tops = tuple(part.clone(memory_format=torch.contiguous_format) for part in parts)
        return tops if len(tops) > 1 else tops[0]


@layer("Slice", "segnet", "deconvnet")
class SliceIntoSeveral(Slice):
    """The older Caffe gives at least two tops."""

    tops = (2, None)


class _QuickProduct(torch.autograd.Function):
    """The product whose gradient divides it by each factor: Caffe's ``stable_prod_grad: false``, NaN at a 0."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *factors: torch.Tensor) -> torch.Tensor:
        product = math.prod(factors[1:], start=factors[0])
        ctx.save_for_backward(product, *factors)
        return product

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        product, *factors = ctx.saved_tensors
        return tuple(product / factor * gradient for factor in factors)


def _sum(bottoms: tuple[torch.Tensor, ...], coefficients: list[float]) -> torch.Tensor:
    total = bottoms[0] if coefficients[0] == 1 else bottoms[0] * coefficients[0]
    for bottom, coefficient in zip(bottoms[1:], coefficients[1:], strict=True):
        total = torch.add(total, bottom, alpha=coefficient)
    return total


def _product(bottoms: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return math.prod(bottoms[1:], start=bottoms[0])


def _quick_product(bottoms: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return _QuickProduct.apply(*bottoms)


def _largest(bottoms: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The second bottom wins a tie with the first, every later one loses it (Caffe)."""
    first, second, *others = bottoms
    top = torch.where(first > second, first, second)
    for other in others:
        top = torch.where(other > top, other, top)
    return top


@layer("Eltwise")
class Eltwise(TorchLayer):
    """Value by value the sum, the product or the largest of several blobs.

    bottoms: two or more of one shape
    top:     that shape; SUM weighs the bottoms with ``coeff``; the gradient of MAX goes to the one that was taken
    """

    bottoms = (2, None)

    def setup(self) -> None:
        """Choose the operation."""
        param = self.message.eltwise_param
        count = len(self.message.bottom)
        name = EltwiseParameter.EltwiseOp.Name(param.operation)
        self.join = {
            "SUM": partial(_sum, coefficients=list(param.coeff) or [1.0] * count),
            "PROD": _product if param.stable_prod_grad else _quick_product,
            "MAX": _largest,
        }[name]
        if param.coeff and name != "SUM":
            raise LayerError(f"`coeff` with `operation: {name}`; expected it with SUM alone")
        if param.coeff and len(param.coeff) != count:
            raise LayerError(f"{len(param.coeff)} times `coeff` for {count} bottoms; expected none or one each")
        if self.in_place and name == "SUM":
            raise LayerError(
                f"the sum is written over its own bottom {self.message.top[0]!r}, which Caffe clears first; expected a "
                "top of another name"
            )

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The common shape."""
        shapes = [tuple(shape) for shape in bottoms]
        if len(set(shapes)) > 1:
            raise LayerError(f"the bottoms have the shapes {shapes}; expected equal ones")
        return shapes[:1]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Join."""
        return self.join(bottoms)


@layer("SpatialProduct")
class SpatialProduct(TorchLayer):
    """Every channel times one plane (DeepLab).

    bottoms: x (N, C, H, W), plane (N, 1, H, W); top: the first bottom's shape
    """

    bottoms = (2, 2)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The first bottom's own shape."""
        x, plane = bottoms
        if len(x) < 2 or tuple(plane) != (x[0], 1, *x[2:]):
            raise LayerError(f"bottoms {tuple(x)} and {tuple(plane)}; expected (N, C, H, W) and (N, 1, H, W)")
        return [x]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        x, plane = bottoms
        return x * plane
