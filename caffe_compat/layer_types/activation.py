"""Activations beside ReLU: every value by itself."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, may_look_at_values
from caffe_compat.layer_types.neuron import Neuron
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import FillerParameter


@layer("PReLU")
class PReLU(Neuron):
    """max(x, 0) + slope min(x, 0) with a learnt slope.

    blob: slope (C,), or () with ``channel_shared``; 0.25 by default
    """

    def setup(self) -> None:
        """Read the filler."""
        param = self.message.prelu_param
        self.shared = param.channel_shared
        self.filler = param.filler if param.HasField("filler") else FillerParameter(value=0.25)
        check_filler(self.filler)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape."""
        (x,) = bottoms
        if len(x) < 2:
            raise LayerError(f"the bottom has the shape {tuple(x)}; expected at least 2 axes, (N, C, ...)")
        slope = getattr(self, "slope", None)
        if slope is not None and not self.shared and slope.numel() != x[1]:
            raise LayerError(f"the bottom has {x[1]} channels, but the slopes are for {slope.numel()}")
        return [x]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The slopes."""
        return [BlobSpec("slope", () if self.shared else (bottoms[0][1],), self.filler)]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Bend."""
        return F.prelu(bottoms[0], self.slope.reshape(-1))


@layer("ELU")
class ELU(Neuron):
    """x above zero, alpha (exp(x) - 1) below."""

    def setup(self) -> None:
        """Read alpha."""
        self.alpha = self.message.elu_param.alpha

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Bend."""
        return F.elu(bottoms[0], self.alpha, inplace=self.may_overwrite())


@layer("Sigmoid")
class Sigmoid(Neuron):
    """1 / (1 + exp(-x))."""

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Squash."""
        return bottoms[0].sigmoid_() if self.may_overwrite() else bottoms[0].sigmoid()


@layer("TanH")
class TanH(Neuron):
    """The hyperbolic tangent."""

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Squash."""
        return bottoms[0].tanh_() if self.may_overwrite() else bottoms[0].tanh()


@layer("AbsVal")
class AbsVal(Neuron):
    """The absolute value; its gradient at 0 is 0. Not in place (Caffe)."""

    def setup(self) -> None:
        """Refuse to run in place."""
        if self.in_place:
            raise LayerError("runs in place; expected a top of another name")

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Drop the sign."""
        return bottoms[0].abs()


@layer("BNLL")
class BNLL(Neuron):
    """log(1 + exp(x)), the binomial normal log likelihood."""

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Take it."""
        return F.softplus(bottoms[0])


class _Power(torch.autograd.Function):
    """z^power. Caffe takes the gradient as power y / z, which is NaN where z is 0, but for powers 1 and 2."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z: torch.Tensor, power: float) -> torch.Tensor:
        y = z.pow(power)
        ctx.power = power
        ctx.save_for_backward(z, y)
        return y

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        z, y = ctx.saved_tensors
        return gradient * (2 * z if ctx.power == 2 else ctx.power * y / z), None


@layer("Power")
class Power(Neuron):
    """(shift + scale x)^power. A constant, without gradient, where power or scale is 0."""

    def setup(self) -> None:
        """Read the numbers."""
        param = self.message.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Raise."""
        (x,) = bottoms
        if self.power * self.scale == 0:
            constant = torch.tensor(self.shift, dtype=x.dtype).pow(self.power) if self.power else 1.0
            return torch.full_like(x, float(constant))
        z = x if (self.scale, self.shift) == (1, 0) else x * self.scale + self.shift
        if self.power == 1:
            return z if z is not x or self.may_overwrite() else x.clone()  # what follows in place must not reach x
        return _Power.apply(z, self.power)


def _natural_log(base: float, field: str) -> float:
    """The natural logarithm of a base; -1 stands for e (Caffe). Raises LayerError."""
    if base != -1 and base <= 0:
        raise LayerError(f"`{field} {{ base: {base:g} }}`; expected a number above 0, or -1 for e")
    return 1.0 if base == -1 else math.log(base)


@layer("Exp")
class Exp(Neuron):
    """base^(shift + scale x); base -1 is e."""

    def setup(self) -> None:
        """Read the numbers."""
        param = self.message.exp_param
        log_base = _natural_log(param.base, "exp_param")
        self.factor, self.offset = log_base * param.scale, log_base * param.shift

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Raise."""
        return (bottoms[0] * self.factor + self.offset).exp()


@layer("Log")
class Log(Neuron):
    """The logarithm of shift + scale x to a base; base -1 is e."""

    def setup(self) -> None:
        """Read the numbers."""
        param = self.message.log_param
        log_base = _natural_log(param.base, "log_param")
        if log_base == 0:
            raise LayerError("`log_param { base: 1 }`; expected another base: every power of 1 is 1")
        self.factor, self.scale, self.shift = 1 / log_base, param.scale, param.shift

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Take it."""
        return (bottoms[0] * self.scale + self.shift).log() * self.factor


@layer("Threshold")
class Threshold(Neuron):
    """1 above the threshold, 0 elsewhere. No backward."""

    has_backward = False

    def setup(self) -> None:
        """Read the threshold."""
        self.threshold = self.message.threshold_param.threshold

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        return (bottoms[0] > self.threshold).to(bottoms[0].dtype)


@layer("Swish")
class Swish(Neuron):
    """x / (1 + exp(-beta x))."""

    def setup(self) -> None:
        """Read beta."""
        self.beta = self.message.swish_param.beta

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Bend."""
        (x,) = bottoms
        return x * (x * self.beta).sigmoid()


@layer("Clip")
class Clip(Neuron):
    """x within min and max; the gradient passes at both bounds too."""

    def setup(self) -> None:
        """Read the bounds."""
        param = self.message.clip_param
        missing = [name for name in ("min", "max") if not param.HasField(name)]
        if missing:
            raise LayerError(f"no `{missing[0]}` in `clip_param`; expected both bounds")
        self.low, self.high = param.min, param.max

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Cut off. A tracer gets torch's own operator, whose gradient stops at the bounds from torch 2.14 on."""
        (x,) = bottoms
        if not may_look_at_values():
            return x.clamp(self.low, self.high)
        x = torch.where(x < self.low, self.low, x)
        return torch.where(x > self.high, self.high, x)
