"""Pooling, with the positions of the maxima as a second top."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from google.protobuf.message import Message

from caffe_compat.coordinates import PlaneMap, gathered
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import MaskShape, Shape, check_axes
from prototxt.caffe_pb2 import PoolingParameter

_SMALLEST = torch.finfo(torch.float32).tiny  # Caffe's FLT_MIN
_LOWEST = -torch.finfo(torch.float32).max  # Caffe's -FLT_MAX, what a window without a maximum holds


def pooled_size(size: int, kernel: int, stride: int, pad: int, clip: bool, round_up: bool = True) -> int:
    """Caffe's output size: rounded up in float32; with padding, the last window must start inside (``clip``)."""
    windows = np.float32(size + 2 * pad - kernel) / np.float32(stride)
    out = int(np.ceil(windows) if round_up else np.floor(windows)) + 1
    return out - 1 if clip and (out - 1) * stride >= size + pad else out


def per_axis(param: Message, stem: str, single: str) -> tuple[int, int] | None:
    """``(h, w)`` from one field or from a pair of fields; None where a field without a default is not given.

    Raises:
        LayerError: both ways are used, or half a pair.
    """
    names = (f"{stem}_h", f"{stem}_w")
    given = [name for name in names if param.HasField(name)]
    if given and param.HasField(single):
        raise LayerError(f"both `{single}` and `{given[0]}` are given; expected one way of saying it")
    if len(given) == 1:
        raise LayerError(f"`{given[0]}` is given alone; expected both `{names[0]}` and `{names[1]}`, or `{single}`")
    if given:
        return getattr(param, names[0]), getattr(param, names[1])
    if param.HasField(single) or param.DESCRIPTOR.fields_by_name[single].has_default_value:
        return (getattr(param, single),) * 2
    return None


@layer("Pooling")
class Pooling(TorchLayer):
    """The maximum or the mean of each window, or a value of it that is drawn (Zeiler and Fergus, 2013).

    STOCHASTIC is for values of at least 0. In TRAIN each value is drawn with its share of the window's sum as its
    probability; in TEST the values' mean is taken with these probabilities.

    bottom: x (N, C, H, W)
    tops:   y (N, C, h, w) with Caffe's rounding up; with MAX also the mask (N, C, h, w), the maximum's flat position
            row * W + column in its unpadded plane, as a float; the first of equal maxima in row order
    """

    tops = (1, 2)

    def setup(self) -> None:
        """Read the window."""
        param = self.param = self.message.pooling_param
        self.maximum = param.pool == PoolingParameter.MAX
        self.stochastic = param.pool == PoolingParameter.STOCHASTIC
        if self.top_count == 2 and not self.maximum:
            raise LayerError("2 tops without `pool: MAX`; expected 1 (only maxima have a position)")
        if param.global_pooling:
            given = [name for name in ("kernel_size", "kernel_h", "kernel_w") if param.HasField(name)]
            if given:
                raise LayerError(
                    f"`{given[0]}` beside `global_pooling: true`; expected none, the window is the whole plane"
                )
        kernel = per_axis(param, "kernel", "kernel_size")
        if kernel is None and not param.global_pooling:
            raise LayerError(
                "no window size; expected `kernel_size`, or `kernel_h` and `kernel_w`, or `global_pooling`"
            )
        self.kernel = kernel or ()
        self.stride, self.pad = per_axis(param, "stride", "stride"), per_axis(param, "pad", "pad")
        if self.stochastic and self.pad != (0, 0):
            raise LayerError(f"pad {self.pad} with `pool: STOCHASTIC`; expected none")
        if param.global_pooling and (self.pad != (0, 0) or self.stride != (1, 1)):
            raise LayerError(
                f"pad {self.pad} and stride {self.stride} with global pooling; expected pad 0 and stride 1"
            )
        if min(self.stride) < 1 or (self.kernel and min(self.kernel) < 1):
            raise LayerError(f"kernel {self.kernel} and stride {self.stride}; expected at least 1")
        if self.kernel and any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise LayerError(f"pad {self.pad} is not smaller than the kernel {self.kernel}")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Sizes by Caffe's rule; the mask remembers the plane that it points into."""
        (x,) = bottoms
        check_axes(x, 4)
        self.window = self.kernel or (x[2], x[3])
        clip = self.pad != (0, 0)
        round_up = self.param.round_mode == PoolingParameter.CEIL
        sizes = zip(x[2:], self.window, self.stride, self.pad, strict=True)
        out = tuple(pooled_size(*axis, clip, round_up) for axis in sizes)
        if min(out) < 1:
            raise LayerError(
                f"the bottom {tuple(x)} is too small for the window {self.window}; expected a larger input"
            )
        self.out_size = out
        self.torch_agrees = self._torch_agrees(x[2:])
        shape = (x[0], x[1], *out)
        return [shape, MaskShape(shape, (x[2], x[3]))][: self.top_count]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Pool."""
        (x,) = bottoms
        if self.stochastic:
            return self._drawn(x)
        if not self.maximum:
            return self._mean(x)
        y, positions = self._maximum(x)
        if self.top_count == 1:
            return y
        return y, positions.to(torch.promote_types(y.dtype, torch.float32))  # half floats count to 256 or 2048

    def overhang(self, plane: Shape) -> tuple[int, int]:
        """Rows and columns that the last windows reach beyond the last of a plane (H, W)."""
        rows, columns = (
            (out - 1) * stride + window - pad - size
            for out, stride, window, pad, size in zip(
                self.out_size, self.stride, self.window, self.pad, plane, strict=True
            )
        )
        return max(rows, 0), max(columns, 0)

    def _torch_agrees(self, plane: Shape) -> bool:
        """Whether torch's own pooling has the same windows: as many, and not padded beyond half of one."""
        as_many = all(
            pooled_size(size, window, stride, pad, clip=True) == out
            for size, window, stride, pad, out in zip(
                plane, self.window, self.stride, self.pad, self.out_size, strict=True
            )
        )
        return as_many and all(2 * pad <= window for pad, window in zip(self.pad, self.window, strict=True))

    def _maximum(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.torch_agrees:
            y, positions = F.max_pool2d(x, self.window, self.stride, self.pad, ceil_mode=True, return_indices=True)
            # torch lets NaN win and gives -inf a position; the smallest maximum tells whether that can matter
            if not may_look_at_values() or bool(y.detach().amin() > _LOWEST):
                return y, positions
        rows, columns = self.overhang(x.shape[2:])
        top, left = self.pad
        usable = torch.where(x > _LOWEST, x, -torch.inf)
        padded = F.pad(usable, (left, columns, top, rows), value=-torch.inf)
        y, positions = F.max_pool2d(padded, self.window, self.stride, return_indices=True)
        width = padded.shape[3]
        positions = (positions // width - top) * x.shape[3] + positions % width - left
        nothing = y == -torch.inf
        return y.masked_fill(nothing, _LOWEST), positions.masked_fill(nothing, -1)

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        if self.torch_agrees:
            return F.avg_pool2d(x, self.window, self.stride, self.pad, ceil_mode=True, count_include_pad=True)
        rows, columns = self.overhang(x.shape[2:])
        top, left = self.pad
        padded = F.pad(x, (left, columns, top, rows))
        sums = F.avg_pool2d(padded, self.window, self.stride, divisor_override=1)
        return sums / self.areas(x.shape[2:]).to(x)

    def _drawn(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = self.overhang(x.shape[2:])
        padded = F.pad(x, (0, columns, 0, rows))  # zeros are never drawn before a value
        windows = padded.unfold(2, self.window[0], self.stride[0]).unfold(3, self.window[1], self.stride[1])
        values = windows[:, :, : self.out_size[0], : self.out_size[1]].flatten(4)
        if not self.training:
            return values.square().sum(-1) / (values.sum(-1) + _SMALLEST)
        sums = values.detach().cumsum(-1)
        share = 1 - torch.rand_like(sums[..., :1])  # above 0, so that a 0 is only drawn where all are 0
        reached = sums >= share * sums[..., -1:]
        first = reached.to(torch.uint8).max(-1, keepdim=True).indices  # torch promises the first of equal maxima
        return values.gather(-1, first).squeeze(-1)

    def areas(self, plane: Shape) -> torch.Tensor:
        """How much of each window counts, (h, w): padding does, what lies beyond it does not (Caffe)."""
        rows, columns = (self._extent(axis, size) for axis, size in enumerate(plane))
        return rows[:, None] * columns

    def _extent(self, axis: int, size: int) -> torch.Tensor:
        start = torch.arange(self.out_size[axis]) * self.stride[axis] - self.pad[axis]
        return (start + self.window[axis]).clamp(max=size + self.pad[axis]) - start

    def plane_map(self) -> PlaneMap:
        """Each value is made of the window around it."""
        return gathered(self.window, self.stride, self.pad)

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """A mean adds every value of its window; a maximum multiplies nothing."""
        return 0 if self.maximum else math.prod(tops[0]) * math.prod(self.window)
