"""Unpooling: DeconvNet's ways of enlarging a pooled map (Noh et al., 2015, section 3.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe_compat.coordinates import PlaneMap, spread
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.pooling import per_axis
from caffe_compat.layer_types.upsample import put_at
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes
from prototxt.caffe_pb2 import UnpoolingParameter


class _GradientDividedBy(torch.autograd.Function):
    """The identity whose gradient is divided: TILE's, in Caffe, is the mean over the window where it were the sum."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(areas)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (areas,) = ctx.saved_tensors
        return gradient / areas, None


@layer("Unpooling")
class Unpooling(TorchLayer):
    """Every value put into a larger plane, whose size is always written.

    MAX puts it at the place that the mask names, without a mask into the first corner of its window (the last of
    several for one place stays); TILE fills its window with it, AVE with its share of it, and overlaps add.

    bottoms: x (N, C, h, w); with MAX also a mask (N, C, h, w), flat positions in the output plane
    top:     y (N, C, H, W): ``unpool_size``, or ``unpool_h`` and ``unpool_w``
    """

    bottoms = (1, 2)

    def setup(self) -> None:
        """Read the window and the size."""
        param = self.message.unpooling_param
        self.method = UnpoolingParameter.UnpoolMethod.Name(param.unpool)
        self.has_mask = len(self.message.bottom) == 2
        kernel, size = per_axis(param, "kernel", "kernel_size"), per_axis(param, "unpool", "unpool_size")
        self.stride = per_axis(param, "stride", "stride")
        if self.has_mask and self.method != "MAX":
            raise LayerError(f"2 bottoms with `unpool: {self.method}`; expected 1 (only MAX takes a mask)")
        if kernel is None or min(*kernel, *self.stride) < 1:
            raise LayerError(
                f"kernel {kernel or 'missing'} and stride {self.stride}; expected `kernel_size`, or `kernel_h` and "
                "`kernel_w`, and all at least 1 (also where they play no part)"
            )
        if size is None or min(size) < 1:
            raise LayerError(
                f"output size {size or 'missing'}; expected `unpool_size`, or `unpool_h` and `unpool_w`, of at least 1"
            )
        if per_axis(param, "pad", "pad") != (0, 0):
            raise LayerError("padding is given; expected none, Caffe's Unpooling has none")
        self.kernel, self.size = kernel, size

    def pinned_plane(self) -> tuple[int, int] | None:
        """The output plane, where a mask points into it."""
        return self.size if self.has_mask else None

    def plane_map(self) -> PlaneMap:
        """Each value spreads around its place."""
        return spread(self.kernel, self.stride, (0, 0))

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The written plane, checked against the one that the mask points into."""
        x = bottoms[0]
        check_axes(x, 4)
        self.plane = self.size
        if self.has_mask:
            mask = bottoms[1]
            if tuple(mask) != tuple(x):
                raise LayerError(f"the map {tuple(x)} and its mask {tuple(mask)} differ in shape; expected the same")
            self.plane = getattr(mask, "plane", self.size)
            if math.prod(self.plane) > math.prod(self.size):
                raise LayerError(f"{self._planes()}: indices can fall outside; expected {self._fitting_size()}")
        return [(*x[:2], *self.size)]

    def _planes(self) -> str:
        return "the mask points into a plane of {}x{}, the output is {}x{}".format(*self.plane, *self.size)

    def _fitting_size(self) -> str:
        return "`unpool_h: {} unpool_w: {}`".format(*self.plane)

    def remarks(self) -> list[str]:
        """A larger plane than the mask's is no error, but every value then lies elsewhere."""
        if self.plane == self.size:
            return []
        return [f"{self._planes()}, so the maps are not aligned; {self._fitting_size()} would fit"]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Unpool."""
        if self.has_mask:
            return put_at(*bottoms, *self.size)
        (x,) = bottoms
        if self.method == "MAX":
            return put_at(x, self._corners(x), *self.size)
        areas = self._areas(x)
        return self._filled(x / areas if self.method == "AVE" else _GradientDividedBy.apply(x, areas))

    def _starts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first row of each value's window and the first column, (h, 1) and (w,)."""
        rows, columns = (torch.arange(x.shape[2 + i], device=x.device) * self.stride[i] for i in (0, 1))
        return rows[:, None], columns

    def _corners(self, x: torch.Tensor) -> torch.Tensor:
        """The first corner of each window as a flat position; of windows beyond the plane, its edge."""
        rows, columns = self._starts(x)
        height, width = self.size
        return (rows.clamp(max=height - 1) * width + columns.clamp(max=width - 1)).expand(x.shape)

    def _areas(self, x: torch.Tensor) -> torch.Tensor:
        """How many places of the plane each window has, (h, w); 1 where it has none."""
        rows, columns = (
            (size - starts).clamp(min=1, max=kernel)
            for size, starts, kernel in zip(self.size, self._starts(x), self.kernel, strict=True)
        )
        return (rows * columns).to(x.dtype)

    def _filled(self, x: torch.Tensor) -> torch.Tensor:
        """Each value all over its window, overlaps added, what lies beyond the plane left out."""
        covered = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], self.stride, self.kernel, strict=True)]
        windows = x.repeat_interleave(math.prod(self.kernel), dim=1).flatten(2)
        filled = F.fold(windows, covered, self.kernel, stride=self.stride)
        return F.pad(filled, (0, self.size[1] - covered[1], 0, self.size[0] - covered[0]))
