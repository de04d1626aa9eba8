"""Convolution over any number of spatial axes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import ConvolutionParameter

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def spatial(param: ConvolutionParameter, field: str, axes: int, default: int | None) -> tuple[int, ...]:
    """One number per spatial axis from a repeated field or its ``_h``/``_w`` pair. Raises LayerError."""
    repeated = list(getattr(param, field))
    stem = "kernel" if field == "kernel_size" else field
    names = (f"{stem}_h", f"{stem}_w")
    pair = [name for name in names if name in param.DESCRIPTOR.fields_by_name and param.HasField(name)]
    if pair:
        if repeated:
            raise LayerError(f"both `{field}` and `{pair[0]}` are given; expected one way of saying it")
        if axes != 2:
            raise LayerError(f"`{pair[0]}` is for 2 spatial axes; this bottom has {axes}, so repeat `{field}` instead")
        if len(pair) == 1 and default is None:
            missing = next(name for name in names if name not in pair)
            raise LayerError(f"`{pair[0]}` is given without `{missing}`; expected both, or `{field}`")
        return tuple(getattr(param, name) if name in pair else int(default or 0) for name in names)
    if not repeated:
        if default is None:
            raise LayerError(f"no `{field}`; expected `{field}`, or `{names[0]}` and `{names[1]}`")
        return (default,) * axes
    if len(repeated) not in (1, axes):
        raise LayerError(f"`{field}` is given {len(repeated)} times; expected once, or once for each of {axes} axes")
    return tuple(repeated) if len(repeated) == axes else tuple(repeated * axes)


@layer("Convolution")
class Convolution(TorchLayer):
    """Cross-correlation with learnt filters; each bottom is convolved with the same ones.

    bottoms: any number of (N, C, *spatial), all of one shape
    tops:    as many (N, num_output, *out), out = floor((in + 2 pad - dilation (k - 1) - 1) / stride) + 1
    blobs:   weight (num_output, C / group, *kernel), bias (num_output,)
    """

    bottoms = (1, None)
    tops = (1, None)

    def setup(self) -> None:
        """Check what does not depend on the bottoms."""
        self.param = param = self.message.convolution_param
        self.group, self.has_bias = param.group, param.bias_term
        if param.num_output < 1:
            raise LayerError("`num_output` is 0 or missing; expected at least 1")
        if param.group < 1 or param.num_output % param.group:
            raise LayerError(f"`num_output: {param.num_output}` is not a multiple of `group: {param.group}`")
        if len(self.message.bottom) != len(self.message.top):
            raise LayerError(
                f"{len(self.message.bottom)} bottoms and {len(self.message.top)} tops; expected equal numbers"
            )
        check_filler(param.weight_filler)
        check_filler(param.bias_filler)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Read the geometry for these bottoms."""
        first = bottoms[0]
        if any(tuple(shape) != tuple(first) for shape in bottoms):
            raise LayerError(f"the bottoms have the shapes {[tuple(s) for s in bottoms]}; expected equal ones")
        axis = canonical_axis(self.param.axis, len(first))
        axes = len(first) - axis - 1
        if axis != 1 or axes not in _CONVOLUTIONS:
            raise LayerError(f"the bottom has the shape {tuple(first)}; expected (N, C) and 1 to 3 spatial axes")
        channels = first[1]
        if channels % self.group:
            raise LayerError(f"the bottom's {channels} channels are not a multiple of `group: {self.group}`")
        self.kernel = spatial(self.param, "kernel_size", axes, None)
        self.stride = spatial(self.param, "stride", axes, 1)
        self.pad = spatial(self.param, "pad", axes, 0)
        self.dilation = self._dilation(axes)
        if min(self.kernel) < 1 or min(self.stride) < 1:
            raise LayerError(f"kernel {self.kernel} with stride {self.stride}; expected both at least 1 on every axis")
        out = tuple(map(self._out_size, first[2:], self.kernel, self.stride, self.pad, self.dilation))
        if min(out) < 1:
            raise LayerError(
                f"the bottom {tuple(first)} is smaller than the kernel {self.kernel} with pad {self.pad} and "
                f"dilation {self.dilation}; expected a larger input or more padding"
            )
        weight = getattr(self, "weight", None)
        if weight is not None and weight.shape[1] * self.group != channels:
            raise LayerError(
                f"the bottom has {channels} channels, but its weights are for {weight.shape[1] * self.group}"
            )
        return [(first[0], self.param.num_output, *out)] * len(bottoms)

    def _dilation(self, axes: int) -> tuple[int, ...]:
        if self.param.HasField("hole"):  # the older DeepLab's name for it
            return (self.param.hole,) * axes
        if self.param.HasField("hole_h") or self.param.HasField("hole_w"):
            return (self.param.hole_h, self.param.hole_w)
        return spatial(self.param, "dilation", axes, 1)

    @staticmethod
    def _out_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        return (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The filters and, unless ``bias_term: false``, the bias."""
        shape = (self.param.num_output, bottoms[0][1] // self.group, *self.kernel)
        specs = [BlobSpec("weight", shape, self.param.weight_filler)]
        if self.has_bias:
            specs.append(BlobSpec("bias", (self.param.num_output,), self.param.bias_filler))
        return specs

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """Every output value takes one multiply-add per weight of its filter."""
        per_value = bottoms[0][1] // self.group * math.prod(self.kernel)
        return sum(math.prod(top) for top in tops) * per_value

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Convolve each bottom."""
        convolve = _CONVOLUTIONS[len(self.kernel)]
        # oneDNN sums a bias's gradient in one running float, which loses digits; an addition of its own does not.
        apart = self.has_bias and torch.is_grad_enabled() and self.bias.requires_grad
        bias = self.bias if self.has_bias and not apart else None
        tops = tuple(convolve(x, self.weight, bias, self.stride, self.pad, self.dilation, self.group) for x in bottoms)
        if apart:
            tops = tuple(top.add_(self.bias.view(-1, *(1,) * len(self.kernel))) for top in tops)
        return tops if len(tops) > 1 else tops[0]
