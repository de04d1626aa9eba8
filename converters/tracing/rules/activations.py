"""Functions of each value."""

from __future__ import annotations

import math

import torch

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.values import Blob, Constant, Padded, as_held, as_number
from prototxt.caffe_pb2 import TRAIN

_SAME = {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "TanH", "abs": "AbsVal", "exp": "Exp", "log": "Log"}
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "square": 2, "reciprocal": -1}


@op(*_SAME)
def same(call: Call, x: Blob | Padded) -> Blob:
    """The layer that computes just that."""
    return call.add(_SAME[call.operation], call.blob(x))


@op(*_POWERS)
def root(call: Call, x: Blob | Padded) -> Blob:
    """Power."""
    return call.add("Power", call.blob(x), power=_POWERS[call.operation])


@op("neg")
def negative(call: Call, x: Blob | Padded) -> Blob:
    """Power with the scale -1."""
    return call.add("Power", call.blob(x), scale=-1)


@op("pow.Tensor_Scalar")
def power(call: Call, x: Blob | Padded, exponent: float) -> Blob:
    """Power."""
    return call.add("Power", call.blob(x), power=exponent)


@op("pow.Scalar")
def exponential(call: Call, base: float, x: Blob | Padded) -> Blob:
    """Exp with a base."""
    if base <= 0:
        raise CannotSay(f"powers of {base:g}; expected a base above 0")
    return call.add("Exp", call.blob(x), base=base)


@op("log2", "log10")
def logarithm(call: Call, x: Blob | Padded) -> Blob:
    """Log with a base."""
    return call.add("Log", call.blob(x), base=2 if call.operation == "log2" else 10)


@op("log1p", "expm1")
def beside_one(call: Call, x: Blob | Padded) -> Blob:
    """Nothing: near 0 Caffe's Log and Exp lose what these are for."""
    raise CannotSay("its digits near 0 are lost in Caffe's Log and Exp; expected log(1 + x) or exp(x) - 1 as such")


@op("leaky_relu")
def leaky_relu(call: Call, x: Blob | Padded, slope: float) -> Blob:
    """ReLU with a slope."""
    return call.add("ReLU", call.blob(x), negative_slope=slope)


@op("prelu")
def prelu(call: Call, x: Blob | Padded, slope: Constant) -> Blob:
    """PReLU, with a slope for each channel or one for all."""
    if not isinstance(slope, Constant):
        raise CannotSay("its slope depends on the inputs; expected a parameter")
    shared = slope.tensor.numel() == 1
    params = {"channel_shared": True} if shared else {}
    weights = (as_held(slope, () if shared else None),)
    return call.add("PReLU", call.blob(x), weights=weights, **params)


@op("elu")
def elu(call: Call, x: Blob | Padded, alpha: float, scale: float, input_scale: float) -> Blob:
    """ELU. SELU and CELU have scales of their own."""
    if (scale, input_scale) != (1, 1):
        raise CannotSay(f"an ELU with the scales {scale:g} and {input_scale:g}; expected 1: Caffe's has alpha alone")
    return call.add("ELU", call.blob(x), alpha=alpha)


@op("softplus")
def softplus(call: Call, x: Blob | Padded, beta: float, threshold: float) -> Blob:
    """BNLL. Above torch's threshold of 20 both are x in float32."""
    if as_number(beta) != 1 or as_number(threshold) < 20:
        raise CannotSay(f"softplus with beta {beta:g} and threshold {threshold:g}; expected 1 and at least 20 (BNLL)")
    return call.add("BNLL", call.blob(x))


@op("silu")
def silu(call: Call, x: Blob | Padded) -> Blob:
    """Swish, or x times its sigmoid."""
    x = call.blob(x)
    if call.knows("Swish"):
        return call.add("Swish", x)
    return call.add("Eltwise", x, call.add("Sigmoid", x, suffix="_sigmoid"), operation="PROD")


@op("clamp", "hardtanh", "relu6", "clamp_min", "clamp_max")
def clip(call: Call, x: Blob | Padded, low: float | None = None, high: float | None = None) -> Blob:
    """ReLU where only what is below 0 is cut off, else Clip, open sides with float32's largest numbers."""
    x = call.blob(x)
    if call.operation == "relu6":
        low, high = 0.0, 6.0
    if call.operation == "clamp_max":
        low, high = None, low
    if any(not (bound is None or as_number(bound) is not None) for bound in (low, high)):
        raise CannotSay("bounds that are tensors; expected numbers")
    largest = torch.finfo(torch.float32).max
    low = -largest if low is None else as_number(low)
    high = largest if high is None else as_number(high)
    if low == 0 and high in (largest, math.inf):
        return call.add("ReLU", x)
    return call.add("Clip", x, clip_param={"min": low, "max": high})


@op("dropout")
def dropout(call: Call, x: Blob | Padded, ratio: float, samples: bool) -> Blob:
    """Dropout. It does nothing in TEST, unless the module drops values in ``eval`` too."""
    x = call.blob(x)
    if not 0 < ratio < 1:
        if samples and ratio:
            raise CannotSay(f"drops every value (p={ratio:g}); expected p below 1")
        return x
    if not samples:
        return call.add("Dropout", x, dropout_ratio=ratio)
    if call.writer.knows_field("DropoutParameter", "sample_weights_test"):
        return call.add("Dropout", x, dropout_ratio=ratio, sample_weights_test=True)
    return call.add("Dropout", x, dropout_ratio=ratio, phase=TRAIN)
