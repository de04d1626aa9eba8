"""Fillers: what parameters start with (Caffe: filler.hpp). Random numbers come from torch's generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from caffe_compat.errors import LayerError
from prototxt.caffe_pb2 import FillerParameter
from prototxt.errors import nearest

Fill = Callable[[torch.Tensor, FillerParameter], None]
_fillers: dict[str, Fill] = {}


def filler(name: str) -> Callable[[Fill], Fill]:
    """Register a filler under Caffe's name."""

    def register(fill: Fill) -> Fill:
        _fillers[name] = fill
        return fill

    return register


def check_filler(param: FillerParameter) -> None:
    """Raise LayerError for a filler that does not exist or does not know ``sparse``."""
    if param.type not in _fillers:
        hint = nearest(param.type, _fillers)
        raise LayerError(
            f"unknown filler type {param.type!r}; {hint or 'expected one of ' + ', '.join(sorted(_fillers))}"
        )
    if param.sparse != -1 and param.type != "gaussian":
        raise LayerError(
            f"filler type {param.type!r} has `sparse: {param.sparse}`; only the gaussian filler knows sparse"
        )


def fill(tensor: torch.Tensor, param: FillerParameter) -> None:
    """Fill a parameter in place as its filler says. Raises LayerError."""
    check_filler(param)
    with torch.no_grad():
        _fillers[param.type](tensor, param)


def _fan(tensor: torch.Tensor, param: FillerParameter) -> float:
    """n of xavier and msra. Caffe divides the count by the first and by the second axis, whatever they mean."""
    count = tensor.numel()
    fan_in = count / tensor.shape[0] if tensor.dim() else count
    fan_out = count / tensor.shape[1] if tensor.dim() > 1 else count
    return {
        FillerParameter.FAN_IN: fan_in,
        FillerParameter.FAN_OUT: fan_out,
        FillerParameter.AVERAGE: (fan_in + fan_out) / 2,
    }[param.variance_norm]


@filler("constant")
def _constant(tensor: torch.Tensor, param: FillerParameter) -> None:
    tensor.fill_(param.value)


@filler("uniform")
def _uniform(tensor: torch.Tensor, param: FillerParameter) -> None:
    tensor.uniform_(param.min, param.max)


@filler("gaussian")
def _gaussian(tensor: torch.Tensor, param: FillerParameter) -> None:
    tensor.normal_(param.mean, param.std)
    if param.sparse >= 0:
        keep = param.sparse / tensor.shape[0]
        tensor.mul_(torch.empty_like(tensor).bernoulli_(keep))


@filler("positive_unitball")
def _positive_unitball(tensor: torch.Tensor, param: FillerParameter) -> None:
    rows = tensor.uniform_(0, 1).view(tensor.shape[0], -1)
    rows.div_(rows.sum(dim=1, keepdim=True))


@filler("xavier")
def _xavier(tensor: torch.Tensor, param: FillerParameter) -> None:
    bound = math.sqrt(3.0 / _fan(tensor, param))
    tensor.uniform_(-bound, bound)


@filler("msra")
def _msra(tensor: torch.Tensor, param: FillerParameter) -> None:
    tensor.normal_(0.0, math.sqrt(2.0 / _fan(tensor, param)))


@filler("bilinear")
def _bilinear(tensor: torch.Tensor, param: FillerParameter) -> None:
    if tensor.dim() != 4 or tensor.shape[2] != tensor.shape[3]:
        raise LayerError(f"the bilinear filler needs a 4-axis blob with square kernels; found {tuple(tensor.shape)}")
    size = tensor.shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2.0 * factor)
    line = 1 - (torch.arange(size, dtype=torch.float64) / factor - centre).abs()
    # every pair of input and output channel gets the kernel: such layers are meant with group = channels
    tensor.copy_((line[:, None] * line[None, :]).to(tensor.dtype).expand_as(tensor))
