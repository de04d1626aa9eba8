"""oneDNN's convolution with what follows it in one pass, by the operators of torch that torch.compile uses too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

_ABLE = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


class Geometry(NamedTuple):
    """How a 2-D convolution's window goes over a plane."""

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def is_able(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch and this processor compute in the type by oneDNN."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or (dtype in _ABLE and bool(getattr(torch.ops.mkldnn, _ABLE[dtype])()))


def pack(weight: torch.Tensor, geometry: Geometry, plane: Sequence[int]) -> torch.Tensor:
    """Weights (outputs, inputs / groups, h, w) as oneDNN lays them out for a plane of about this size."""
    stride, pad, dilation, groups = geometry
    like = (1, weight.shape[1] * groups, *plane)
    return torch.ops.mkldnn._reorder_convolution_weight(weight, pad, stride, dilation, groups, like)


def convolve(
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    pad: Sequence[int],
    relu: bool,
) -> torch.Tensor:
    """The convolution, and a ReLU where it is wanted; ``pad`` stands for that of the geometry."""
    stride, _, dilation, groups = geometry
    then = "relu" if relu else "none"
    return torch.ops.mkldnn._convolution_pointwise(x, packed, bias, pad, stride, dilation, groups, then, [], "")
