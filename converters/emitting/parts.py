"""Modules and functions that emitted sources contain where they use them: their text is copied as it stands here.

So each needs torch alone, and other parts by name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class BN(nn.Module):
    """SegNet's batch normalisation for inference: a factor and an offset, into which the statistics were merged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift (N, C, H, W)."""
        return x * self.scale + self.shift


class BatchBN(nn.Module):
    """SegNet's batch normalisation by the batch itself (``bn_mode: LEARN``), also under ``eval()``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise, scale and shift (N, C, H, W)."""
        return normalise(x, 1e-9) * self.scale + self.shift


class BatchNorm(nn.Module):
    """Caffe's BatchNorm by its stored sums, also under ``train()``; ``weight`` is what they are divided by."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("weight", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, ...)."""
        factor = torch.where(self.weight == 0, torch.zeros_like(self.weight), 1 / self.weight)
        along = (-1, *(1,) * (x.dim() - 2))
        mean, variance = (self.mean * factor).view(along), (self.variance * factor).view(along)
        return (x - mean) / (variance + self.eps).sqrt()


class Scale(nn.Module):
    """A learnt factor and, if wanted, an offset, both of a shape that broadcasts."""

    def __init__(self, *shape: int, bias: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply and add."""
        y = x * self.scale
        return y if self.bias is None else y + self.bias


class Bias(nn.Module):
    """A learnt offset of a shape that broadcasts."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add."""
        return x + self.bias


class TransposedLinear(nn.Module):
    """A linear layer whose weight is (in, out)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply and add (..., in)."""
        return F.linear(x, self.weight.T, self.bias)


def normalise(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Take each channel's mean over the batch away and divide by its deviation: x (N, C, ...)."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()


def mean_variance(x: torch.Tensor, eps: float, across_channels: bool) -> torch.Tensor:
    """Caffe's MVN: each plane of x (N, C, H, W), or each item, less its mean and divided by its deviation + eps."""
    planes = x.flatten(1 if across_channels else 2)
    centred = planes - planes.mean(-1, keepdim=True)
    return (centred / (centred.square().mean(-1, keepdim=True).sqrt() + eps)).view(x.shape)


def lrn(x: torch.Tensor, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """Local response normalisation over ``size`` channels: x (N, C, H, W)."""
    half = size // 2
    squares = F.pad(x.square(), (0, 0, 0, 0, half, half))
    mean = F.avg_pool3d(squares.unsqueeze(1), (size, 1, 1), stride=1).squeeze(1)
    return x * (mean * alpha + k).pow(-beta)


def lrn_of_few(x: torch.Tensor, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """Local response normalisation over ``size`` channels of x (N, C, H, W), which has fewer."""
    half, channels = size // 2, x.shape[1]
    squares = F.pad(x.square(), (0, 0, 0, 0, half, half))
    mean = sum(squares[:, i : i + channels] for i in range(size)) / size
    return x * (mean * alpha + k).pow(-beta)


def lrn_within(x: torch.Tensor, size: int, alpha: float, beta: float) -> torch.Tensor:
    """Local response normalisation over windows of ``size`` rows and columns: x (N, C, H, W)."""
    mean = F.avg_pool2d(x.square(), size, 1, size // 2)
    return x * (mean * alpha + 1.0).pow(-beta)


def windows_of(
    x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], fill: float
) -> tuple[torch.Tensor, list[int]]:
    """x (N, C, H, W) padded so that it holds Caffe's pooling windows and no others, and their numbers (rows, columns).

    Their number is rounded up; with padding, a last window that begins behind the plane is left out.
    """
    counts, behind = [], []
    for axis in (0, 1):
        size = x.shape[2 + axis]
        count = -((kernel[axis] - size - 2 * pad[axis]) // stride[axis]) + 1
        if any(pad) and (count - 1) * stride[axis] >= size + pad[axis]:
            count -= 1
        counts.append(count)
        behind.append(max((count - 1) * stride[axis] + kernel[axis] - pad[axis] - size, 0))
    return F.pad(x, (pad[1], behind[1], pad[0], behind[0]), value=fill), counts


def max_pool(
    x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The maximum of each of Caffe's windows and where it stands in the plane; -1 in a window of padding alone."""
    padded, _ = windows_of(x, kernel, stride, pad, -torch.inf)
    y, places = F.max_pool2d(padded, kernel, stride, return_indices=True)
    width = padded.shape[3]
    places = (places // width - pad[0]) * x.shape[3] + places % width - pad[1]
    nothing = y == -torch.inf
    return y.masked_fill(nothing, -torch.finfo(torch.float32).max), places.masked_fill(nothing, -1)


def mean_pool(x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]) -> torch.Tensor:
    """The mean of each of Caffe's windows: padding counts as zeros, what lies beyond it does not count."""
    padded, counts = windows_of(x, kernel, stride, pad, 0.0)
    sums = F.avg_pool2d(padded, kernel, stride, divisor_override=1)
    areas = []
    for axis in (0, 1):
        start = torch.arange(counts[axis], device=x.device) * stride[axis] - pad[axis]
        areas.append(((start + kernel[axis]).clamp(max=x.shape[2 + axis] + pad[axis]) - start).to(x.dtype))
    return sums / (areas[0][:, None] * areas[1][None, :])


def put_at(x: torch.Tensor, places: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Values at flat places of a plane, zero elsewhere: x, places (N, C, h, w) to (N, C, height, width).

    Of several values for one place the last one stays.
    """
    plane = x.new_zeros(*x.shape[:2], height * width)
    return plane.scatter_(2, places.to(torch.int64).flatten(2), x.flatten(2)).view(*x.shape[:2], height, width)


def put_at_corners(x: torch.Tensor, stride: tuple[int, int], height: int, width: int) -> torch.Tensor:
    """Each value at the first corner of its window, zero elsewhere: x (N, C, h, w) to (N, C, height, width)."""
    rows = (torch.arange(x.shape[2], device=x.device) * stride[0]).clamp(max=height - 1)
    columns = (torch.arange(x.shape[3], device=x.device) * stride[1]).clamp(max=width - 1)
    return put_at(x, (rows[:, None] * width + columns).expand(x.shape), height, width)


def fill_windows(
    x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], height: int, width: int, share: bool
) -> torch.Tensor:
    """Each value all over its window, or its share of it; overlaps add: x (N, C, h, w) to (N, C, height, width)."""
    if share:
        rows = (height - torch.arange(x.shape[2], device=x.device) * stride[0]).clamp(min=1, max=kernel[0])
        columns = (width - torch.arange(x.shape[3], device=x.device) * stride[1]).clamp(min=1, max=kernel[1])
        x = x / (rows[:, None] * columns).to(x.dtype)
    covered = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], stride, kernel, strict=True)]
    windows = x.repeat_interleave(kernel[0] * kernel[1], dim=1).flatten(2)
    filled = F.fold(windows, covered, kernel, stride=stride)
    return F.pad(filled, (0, width - covered[1], 0, height - covered[0]))


def crop(x: torch.Tensor, like: torch.Tensor, top: int, left: int) -> torch.Tensor:
    """The window of x (N, C, H, W) that begins at (top, left) and has as many rows and columns as ``like``."""
    height, width = like.shape[2:]
    return x[:, :, top : top + height, left : left + width].contiguous()


def crop_axes(x: torch.Tensor, like: torch.Tensor, axis: int, *offsets: int) -> torch.Tensor:
    """The window of x that is as large as ``like`` from an axis on, and begins at an offset on each."""
    for i, offset in enumerate(offsets, axis):
        x = x.narrow(i, offset, like.shape[i])
    return x.contiguous()


def largest(x: torch.Tensor, k: int, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values along an axis and their indices as floats; of equal values the last comes first (Caffe)."""
    flipped = x.flip(axis)
    if k == 1:
        values, indices = flipped.max(axis, keepdim=True)
    else:
        values, indices = flipped.sort(dim=axis, descending=True, stable=True)
        values, indices = values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
    return values, (x.shape[axis] - 1 - indices).to(x.dtype)


def drop_channels(x: torch.Tensor, keep: float) -> torch.Tensor:
    """Channels of each item zero with probability 1 - keep, the others divided by ``keep``, also under ``eval()``."""
    kept = torch.bernoulli(torch.full((*x.shape[:2], 1, 1), keep)).to(x)
    return x * (kept * (1 / keep))
