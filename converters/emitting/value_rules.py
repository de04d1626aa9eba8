"""Layers that compute something of values: activations, normalisations, sums."""

from __future__ import annotations

import math

import torch

from converters.emitting.plan import Assignment, CannotEmit, Step
from converters.emitting.registry import emits
from converters.emitting.writing import arguments, exact, number
from prototxt.caffe_pb2 import EltwiseParameter, ReductionParameter

#: Types without parameters.
_PLAIN = {
    "AbsVal": "{0}.abs()",
    "BNLL": "F.softplus({0})",
    "Sigmoid": "{0}.sigmoid()",
    "TanH": "{0}.tanh()",
}


@emits(*_PLAIN)
def _plain(step: Step) -> None:
    step.assign(_PLAIN[step.layer.type])


@emits("ReLU")
def _relu(step: Step) -> None:
    slope = step.layer.slope
    step.assign(f"F.leaky_relu({{0}}, {number(slope)})" if slope else "F.relu({0})")


@emits("ELU")
def _elu(step: Step) -> None:
    step.assign(f"F.elu({arguments('{0}', number(step.layer.alpha))})")


@emits("Threshold")
def _threshold(step: Step) -> None:
    step.assign(f"({{0}} > {number(step.layer.threshold)}).to({{0}}.dtype)")


@emits("Swish")
def _swish(step: Step) -> None:
    step.assign(f"{{0}} * ({{0}} * {number(step.layer.beta)}).sigmoid()")


@emits("Clip")
def _clip(step: Step) -> None:
    step.assign(f"{{0}}.clamp({number(step.layer.low)}, {number(step.layer.high)})")


@emits("Power")
def _power(step: Step) -> None:
    power, scale, shift = step.layer.power, step.layer.scale, step.layer.shift
    if power * scale == 0:
        constant = float(torch.tensor(shift).pow(power)) if power else 1.0
        if not math.isfinite(constant):
            raise CannotEmit(f"{shift:g} to the power of {power:g} is {constant}; expected a number")
        step.assign(f"torch.full_like({{0}}, {number(constant)})")
        return
    scaled = "{0}" if scale == 1 else f"{{0}} * {number(scale)}"
    if shift or power < 0:  # -0 + 0 is 0, whose inverse has another sign
        scaled += f" + {number(shift)}"
    if power == 1:
        step.assign(scaled)
    else:
        step.assign(f"{scaled if scaled == '{0}' else f'({scaled})'}.pow({exact(power)})")


@emits("Exp")
def _exp(step: Step) -> None:
    step.assign(f"({{0}} * {number(step.layer.factor)} + {number(step.layer.offset)}).exp()")


@emits("Log")
def _log(step: Step) -> None:
    layer = step.layer
    step.assign(f"({{0}} * {number(layer.scale)} + {number(layer.shift)}).log() * {number(layer.factor)}")


@emits("LRN")
def _lrn(step: Step) -> None:
    layer = step.layer
    given = arguments("{0}", layer.size, number(layer.alpha), exact(layer.beta))
    if layer.within:
        step.assign(f"lrn_within({given})")
    else:
        name = "lrn_of_few" if step.bottoms[0].shape[1] < layer.size else "lrn"
        step.assign(f"{name}({given}, {number(layer.k)})")


@emits("MVN")
def _mvn(step: Step) -> None:
    layer = step.layer
    if layer.scales:
        across = 1 in layer.axes
        step.assign(f"mean_variance({arguments('{0}', number(layer.epsilon), across_channels=across)})")
    else:
        step.assign(f"{{0}} - {{0}}.mean({layer.axes}, keepdim=True)")


@emits("Softmax")
def _softmax(step: Step) -> None:
    step.assign(f"{{0}}.softmax({step.layer.axis})")


@emits("ArgMax")
def _argmax(step: Step) -> None:
    layer, shape = step.layer, step.tops[0].shape
    if layer.axis is not None:
        found = f"largest({{0}}, {layer.top_k}, {layer.axis % len(step.bottoms[0].shape)})"
        step.assign(f"{found}[{0 if layer.gives_values else 1}]")
        return
    trailing = "".join(".unsqueeze(-1)" for _ in shape[3:])
    found = f"largest({{0}}.flatten(1), {layer.top_k}, 1)"
    if layer.gives_values:
        step.assign(f"torch.stack({found}[::-1], 1){trailing}")
    else:
        step.assign(f"{found}[1].unsqueeze(1){trailing}")


@emits("Eltwise")
def _eltwise(step: Step) -> None:
    param, top = step.layer.message.eltwise_param, step.tops[0]
    others = range(1, len(step.bottoms))
    operation = EltwiseParameter.EltwiseOp.Name(param.operation)
    if operation == "PROD":
        step.assign(" * ".join(f"{{{i}}}" for i in range(len(step.bottoms))))
    elif operation == "SUM":
        step.assign(_sum(list(param.coeff) or [1.0] * len(step.bottoms)))
    else:
        taken = "torch.where({0} > {1}, {0}, {1})"
        step.assign(taken, bottoms=[0, 1])
        for i in others[1:]:
            step.lines.append(Assignment((top,), taken, (step.bottoms[i], top)))


def _sum(coefficients: list[float]) -> str:
    """``torch.add`` with a factor rounds once, so a factor that is not 1 or -1 must go through it."""
    first, *others = coefficients
    total = "{0}" if first == 1 else f"{{0}} * {number(first)}"
    for i, factor in enumerate(others, 1):
        if abs(factor) == 1:
            total += f" {'+' if factor > 0 else '-'} {{{i}}}"
        else:
            total = f"torch.add({total}, {{{i}}}, alpha={number(factor)})"
    return total


@emits("Interp")
def _interp(step: Step) -> None:
    layer = step.layer
    first, last = layer.crop
    x = "{0}"
    if first or last:
        rows = f"{first or ''}:{-last if last else ''}"
        x = f"{{0}}[:, :, {rows}, {rows}]"
    if layer.written:
        size = f"{layer.written}"
    else:
        less = f" - {first + last + 1}"
        shrunk = f" // {layer.shrink}" if layer.shrink and layer.shrink > 1 else ""
        zoomed = f" * {layer.zoom}" if layer.zoom and layer.zoom > 1 else ""
        size = ", ".join(f"({{0}}.shape[{axis}]{less}){shrunk}{zoomed} + 1" for axis in (2, 3))
        size = f"({size})"
    step.assign(f'F.interpolate({x}, {size}, mode="bilinear", align_corners=True)')


_REDUCED = {
    ReductionParameter.SUM: "",
    ReductionParameter.MEAN: "",
    ReductionParameter.ASUM: ".abs()",
    ReductionParameter.SUMSQ: ".square()",
}


@emits("Reduction")
def _reduction(step: Step) -> None:
    layer, operation = step.layer, step.layer.message.reduction_param.operation
    how = "mean" if operation == ReductionParameter.MEAN else "sum"
    factor = "" if layer.factor == 1 else f" * {number(layer.factor)}"
    step.assign(f"{{0}}.flatten({layer.axis}){_REDUCED[operation]}.{how}(-1){factor}")
