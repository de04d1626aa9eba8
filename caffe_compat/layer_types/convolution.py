"""Convolution over any number of spatial axes, and what every layer with learnt or sliding windows reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from caffe_compat.coordinates import PlaneMap, gathered
from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, TorchLayer, is_exact, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import ConvolutionParameter

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_PRODUCTS = 320  # about as many as a BLAS adds up before it begins a new sum
_CHANNELS = 16  # oneDNN takes so many at a time


class Window(NamedTuple):
    """How a window goes over the spatial axes: one number per axis each."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """From the first to the last value under the window, holes included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def places(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many windows lie side by side: floor((size + 2 pad - extent) / stride) + 1. Raises LayerError."""
        axes = zip(sizes, self.extent, self.stride, self.pad, strict=True)
        out = tuple((size + 2 * pad - extent) // stride + 1 for size, extent, stride, pad in axes)
        if min(out) < 1:
            raise LayerError(
                f"the bottom's plane {tuple(sizes)} is smaller than the kernel {self.kernel} with pad {self.pad} and "
                f"dilation {self.dilation}; expected a larger input or more padding"
            )
        return out

    def covered(self, places: Sequence[int]) -> tuple[int, ...]:
        """The plane that so many windows cover, less the padding: stride (places - 1) + extent - 2 pad.

        Raises:
            LayerError: nothing is left.
        """
        axes = zip(places, self.extent, self.stride, self.pad, strict=True)
        out = tuple(stride * (count - 1) + extent - 2 * pad for count, extent, stride, pad in axes)
        if min(out) < 1:
            raise LayerError(
                f"the bottom's plane {tuple(places)} with kernel {self.kernel}, stride {self.stride} and pad "
                f"{self.pad} gives the output {out}; expected less padding"
            )
        return out


def read_window(param: ConvolutionParameter, axes: int) -> Window:
    """The window of a ``convolution_param`` over so many spatial axes. Raises LayerError."""
    window = Window(
        _per_axis(param, "kernel_size", axes, None),
        _per_axis(param, "stride", axes, 1),
        _per_axis(param, "pad", axes, 0),
        _dilation(param, axes),
    )
    if min(*window.kernel, *window.stride, *window.dilation) < 1:
        raise LayerError(
            f"kernel {window.kernel}, stride {window.stride} and dilation {window.dilation}; expected at least 1 on "
            "every axis"
        )
    return window


def _per_axis(param: ConvolutionParameter, field: str, axes: int, default: int | None) -> tuple[int, ...]:
    """One number per spatial axis from a repeated field or its ``_h``/``_w`` pair."""
    repeated = list(getattr(param, field))
    stem = "kernel" if field == "kernel_size" else field
    names = (f"{stem}_h", f"{stem}_w")
    pair = [name for name in names if name in param.DESCRIPTOR.fields_by_name and param.HasField(name)]
    if pair:
        if repeated:
            raise LayerError(f"both `{field}` and `{pair[0]}` are given; expected one way of saying it")
        if axes != 2:
            raise LayerError(f"`{pair[0]}` is for 2 spatial axes; this bottom has {axes}, so repeat `{field}` instead")
        if len(pair) == 1 and default != 0:  # of the padding one may be left out (Caffe)
            missing = next(name for name in names if name not in pair)
            raise LayerError(f"`{pair[0]}` is given without `{missing}`; expected both, or `{field}`")
        return getattr(param, names[0]), getattr(param, names[1])
    if not repeated:
        if default is None:
            raise LayerError(f"no `{field}`; expected `{field}`, or `{names[0]}` and `{names[1]}`")
        return (default,) * axes
    if len(repeated) not in (1, axes):
        raise LayerError(f"`{field}` is given {len(repeated)} times; expected once, or once for each of {axes} axes")
    return tuple(repeated) if len(repeated) == axes else tuple(repeated * axes)


def _dilation(param: ConvolutionParameter, axes: int) -> tuple[int, ...]:
    if param.HasField("hole"):  # the older DeepLab's name for it
        return (param.hole,) * axes
    if param.HasField("hole_h") or param.HasField("hole_w"):
        return param.hole_h, param.hole_w
    return _per_axis(param, "dilation", axes, 1)


class _BiasGradient(torch.autograd.Function):
    """Says that a bias is in the top, which was computed with it as a constant: its gradient is a sum of its own.

    oneDNN sums that gradient in one running float, which loses digits. top (..., C, *spatial), C on the axis, and bias
    (C,); gives the top.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, top: torch.Tensor, bias: torch.Tensor, axis: int
    ) -> torch.Tensor:
        """The same tensor."""
        ctx.mark_dirty(top)
        ctx.axis, ctx.dtype = axis, bias.dtype
        return top

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """The top's own, and its sum over all but the channels."""
        others = [axis for axis in range(gradient.dim()) if axis != ctx.axis]
        return gradient, gradient.sum(others, dtype=ctx.dtype), None


class _InParts(torch.autograd.Function):
    """A convolution whose products are summed over a part of the channels after the other, and the bias added last.

    oneDNN runs through all products of a value in one running float: at 512 channels of 3×3 its error is five times
    that of Caffe's matrix product, in parts of 32 channels less than twice. x (N, C, *spatial), weight (outputs, C,
    *kernel), bias (outputs,) without a gradient, or None; gives the top. Its gradients are those of one convolution.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        window: Window,
        channels: int,
    ) -> torch.Tensor:
        """Convolve, so many channels at a time."""
        ctx.save_for_backward(x, weight)
        ctx.window = window
        kernel, *geometry = window
        parts = zip(x.split(channels, 1), weight.split(channels, 1), strict=True)
        convolved = (_CONVOLUTIONS[len(kernel)](some, filters, None, *geometry) for some, filters in parts)
        top = next(convolved)
        for part in convolved:
            top.add_(part)
        return top if bias is None else top.add_(bias.view(-1, *(1,) * len(kernel)))

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        """To the bottom and the weights."""
        x, weight = ctx.saved_tensors
        kernel, stride, pad, dilation = ctx.window
        wanted = [*ctx.needs_input_grad[:2], False]
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, pad, dilation, False, [0] * len(kernel), 1, wanted
        )
        return dx, dweight, None, None, None


class Filtering(TorchLayer):
    """Learnt filters, the same for each bottom: what Convolution and Deconvolution have in common."""

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

    def out_sizes(self, sizes: Shape) -> Shape:
        """The spatial sizes of a top. Raises LayerError."""
        raise NotImplementedError

    def weight_shape(self, channels: int) -> Shape:
        """The shape of the weights for a bottom with so many channels."""
        raise NotImplementedError

    def filter(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """One bottom (N, C, *spatial) through the filters."""
        raise NotImplementedError

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Read the geometry for these bottoms."""
        first = tuple(bottoms[0])
        if any(tuple(shape) != first for shape in bottoms):
            raise LayerError(f"the bottoms have the shapes {[tuple(s) for s in bottoms]}; expected equal ones")
        self.axis = canonical_axis(self.param.axis, len(first))
        channels, *sizes = first[self.axis :]
        if len(sizes) not in _CONVOLUTIONS:
            raise LayerError(
                f"the bottom {first} has {len(sizes)} spatial axes after its channels on axis {self.axis}; expected "
                f"1 to {max(_CONVOLUTIONS)}, as in (N, C, H, W)"
            )
        if channels % self.group:
            raise LayerError(f"the bottom's {channels} channels are not a multiple of `group: {self.group}`")
        self.window = read_window(self.param, len(sizes))
        weight = getattr(self, "weight", None)
        if weight is not None and tuple(weight.shape) != self.weight_shape(channels):
            raise LayerError(
                f"the bottom has {channels} channels, which takes weights of the shape {self.weight_shape(channels)}; "
                f"this layer's have {tuple(weight.shape)}"
            )
        return [(*first[: self.axis], self.param.num_output, *self.out_sizes(tuple(sizes)))] * len(bottoms)

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The filters and, unless ``bias_term: false``, the bias."""
        specs = [BlobSpec("weight", self.weight_shape(bottoms[0][self.axis]), self.param.weight_filler)]
        if self.has_bias:
            specs.append(BlobSpec("bias", (self.param.num_output,), self.param.bias_filler))
        return specs

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Filter each bottom."""
        bias = self.bias if self.has_bias else None
        apart = bias is not None and torch.is_grad_enabled() and bias.requires_grad and may_look_at_values()
        if apart:
            tops = tuple(_BiasGradient.apply(self._filtered(x, bias.detach()), bias, self.axis) for x in bottoms)
        else:
            tops = tuple(self._filtered(x, bias) for x in bottoms)
        return tops if len(tops) > 1 else tops[0]

    def _filtered(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Whatever stands before the channels is a batch to torch."""
        if self.axis == 1:
            return self.filter(x, bias)
        top = self.filter(x.reshape(-1, *x.shape[self.axis :]), bias)
        return top.view(*x.shape[: self.axis], *top.shape[1:])


@layer("Convolution")
class Convolution(Filtering):
    """Cross-correlation with learnt filters.

    bottoms: any number of (N, C, *spatial), all of one shape; ``axis`` tells where C stands
    tops:    as many (N, num_output, *out), out = floor((in + 2 pad - dilation (k - 1) - 1) / stride) + 1
    blobs:   weight (num_output, C / group, *kernel), bias (num_output,)
    """

    def out_sizes(self, sizes: Shape) -> Shape:
        """As many values as windows."""
        return self.window.places(sizes)

    def weight_shape(self, channels: int) -> Shape:
        """A filter for each output."""
        return (self.param.num_output, channels // self.group, *self.window.kernel)

    def filter(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Convolve."""
        kernel, stride, pad, dilation = self.window
        on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if is_exact() and on_cpu and x.dtype == torch.float32 and self.group == 1:
            channels = max(_CHANNELS, _PRODUCTS // math.prod(kernel) // _CHANNELS * _CHANNELS)
            return _InParts.apply(x, self.weight, bias, self.window, channels)
        return _CONVOLUTIONS[len(kernel)](x, self.weight, bias, stride, pad, dilation, self.group)

    def plane_map(self) -> PlaneMap:
        """Each value is made of the window around it."""
        return gathered(self.window.extent, self.window.stride, self.window.pad)

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """Every output value takes one multiply-add per weight of its filter."""
        per_value = bottoms[0][self.axis] // self.group * math.prod(self.window.kernel)
        return sum(math.prod(top) for top in tops) * per_value
