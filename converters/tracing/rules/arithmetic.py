"""Sums, products and the larger of two: of blobs (Eltwise), with numbers (Power), with constants (Scale, Bias, BN)."""

from __future__ import annotations

import torch

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.rules.joining import spread
from converters.tracing.values import Blob, Constant, Padded, Weight, as_held, as_number, derived
from prototxt.caffe_pb2 import BNParameter

Operand = Blob | Padded | Constant | float


@op("add")
def add(call: Call, a: Operand, b: Operand, alpha: float) -> Blob:
    """a + alpha b."""
    return _sum(call, a, b, 1.0, float(alpha))


@op("sub")
def subtract(call: Call, a: Operand, b: Operand, alpha: float) -> Blob:
    """a - alpha b."""
    return _sum(call, a, b, 1.0, -float(alpha))


@op("rsub")
def subtract_from(call: Call, a: Operand, b: Operand, alpha: float) -> Blob:
    """b - alpha a."""
    return _sum(call, b, a, 1.0, -float(alpha))


@op("mul")
def multiply(call: Call, a: Operand, b: Operand) -> Blob:
    """a b."""
    if isinstance(a, Constant | int | float):
        a, b = b, a
    x, number = call.blob(a), as_number(b)
    if number is not None:
        return call.add("Power", x, scale=number)
    if isinstance(b, Constant):
        return _scaled(call, x, b)
    return _product(call, x, call.blob(b))


@op("div.Tensor", "div.Scalar")
def divide(call: Call, a: Operand, b: Operand) -> Blob:
    """a / b, as a times 1 / b."""
    number = as_number(b)
    if number is not None:
        return call.add("Power", call.blob(a), scale=1 / number)
    if isinstance(b, Constant):
        return _scaled(call, call.blob(a), Constant(1 / b.tensor.double()))
    inverse_name = "" if as_number(a) == 1 else "_inverse"
    inverse = call.add("Power", call.blob(b), shape=call.blob(b).shape, suffix=inverse_name, power=-1)
    return inverse if not inverse_name else multiply(call, a, inverse)


@op("maximum", "max.other")
def larger(call: Call, a: Operand, b: Operand) -> Blob:
    """Eltwise MAX."""
    return call.add("Eltwise", *(spread(call, call.blob(x), call.shape) for x in (a, b)), operation="MAX")


def _sum(call: Call, a: Operand, b: Operand, of_a: float, of_b: float) -> Blob:
    if not isinstance(a, Blob | Padded):
        a, b, of_a, of_b = b, a, of_b, of_a
    x, number = call.blob(a), as_number(b)
    if number is not None:
        return call.add("Power", x, **_unless(scale=of_a), shift=of_b * number)
    if isinstance(b, Constant):
        if of_a != 1:
            x = call.add("Power", x, shape=x.shape, suffix="_scaled", scale=of_a)
        return _shifted(call, x, b if of_b == 1 else Constant(of_b * b.tensor.double()))
    blobs = [spread(call, one, call.shape) for one in (x, call.blob(b))]
    coefficients = {} if of_a == of_b == 1 else {"coeff": [of_a, of_b]}
    return call.add("Eltwise", *blobs, operation="SUM", **coefficients)


def _product(call: Call, x: Blob, y: Blob) -> Blob:
    """Eltwise PROD; a factor for each channel of each item is Scale with two bottoms where the dialect has it."""
    if x.shape != call.shape:
        x, y = y, x
    per_channel = len(y.shape) == 4 and y.shape == (*x.shape[:2], 1, 1) != x.shape
    if per_channel and call.knows("Scale"):
        factor = call.add("Flatten", y, shape=y.shape[:2], suffix="_flat")
        return call.add("Scale", x, factor, axis=0)
    return call.add("Eltwise", *(spread(call, one, call.shape) for one in (x, y)), operation="PROD")


def _scaled(call: Call, x: Blob, factor: Constant) -> Blob:
    """A constant factor along some axes."""
    axis, weight = _along(call, x, factor)
    if call.knows("Scale"):
        return call.add("Scale", x, weights=(weight,), **_axes(axis, weight))
    scale = _per_channel(call, x, axis, weight)
    return call.add("BN", x, weights=(derived(scale), derived(torch.zeros_like(scale))), bn_mode=BNParameter.INFERENCE)


def _shifted(call: Call, x: Blob, offset: Constant) -> Blob:
    """A constant offset along some axes."""
    axis, weight = _along(call, x, offset)
    if call.knows("Bias"):
        return call.add("Bias", x, weights=(weight,), **_axes(axis, weight))
    shift = _per_channel(call, x, axis, weight)
    return call.add("BN", x, weights=(derived(torch.ones_like(shift)), derived(shift)), bn_mode=BNParameter.INFERENCE)


def _along(call: Call, x: Blob, constant: Constant) -> tuple[int, Weight]:
    """The first axis that a constant covers, and its values from there to the last one."""
    shape = (1,) * (len(x.shape) - constant.tensor.dim()) + tuple(constant.tensor.shape)
    covered = [axis for axis, size in enumerate(shape) if size != 1]
    if call.shape != x.shape:
        raise CannotSay(
            f"a blob of the shape {x.shape} and a constant of the shape {shape}; expected one that fits inside"
        )
    first, last = covered[0], covered[-1]
    if shape[first : last + 1] != x.shape[first : last + 1]:
        raise CannotSay(
            f"a constant of the shape {shape} for {x.shape}; expected it to cover axes that stand side by side"
        )
    inner = shape[first : last + 1]
    exact = constant.tensor.dtype == torch.float32
    return first, as_held(constant, inner) if exact else derived(constant.tensor, inner)


def _per_channel(call: Call, x: Blob, axis: int, weight: Weight) -> torch.Tensor:
    if axis != 1 or weight.values.ndim != 1 or len(x.shape) != 4 or not call.knows("BN"):
        raise CannotSay(
            f"a constant of the shape {weight.values.shape} from axis {axis} on for {x.shape}; expected a value "
            "for each channel of (N, C, H, W): --dialect bvlc takes others"
        )
    return torch.from_numpy(weight.values).view(1, -1, 1, 1)


def _axes(axis: int, weight: Weight) -> dict[str, int]:
    return {**_unless(axis=axis), **_unless(num_axes=weight.values.ndim)}


def _unless(**params: float) -> dict[str, float]:
    """Parameters but for Caffe's default of 1."""
    return {name: value for name, value in params.items() if value != 1}
