"""Normalisation."""

from __future__ import annotations

import numpy as np
import torch

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.values import Blob, Constant, Padded, Weight, as_held, derived
from converters.translation_rules import NORM_SUFFIX
from prototxt.caffe_pb2 import BNParameter


@op("_native_batch_norm_legit_no_training")
def batch_norm(
    call: Call,
    x: Blob | Padded,
    weight: Constant | None,
    bias: Constant | None,
    mean: Constant,
    variance: Constant,
    momentum: float,
    epsilon: float,
) -> list[Blob]:
    """Where the dialect has it, SegNet's BN as scale and shift, computed in float64; else BatchNorm, then Scale.

    scale = weight / sqrt(variance + eps), shift = bias - mean scale. BatchNorm and Scale hold torch's numbers as they
    are.
    """
    x = call.blob(x)
    if call.knows("BN"):
        if len(x.shape) != 4:
            raise CannotSay(f"a bottom of the shape {x.shape}; expected (N, C, H, W) for BN: --dialect bvlc takes any")
        scale = (variance.tensor.double() + epsilon).rsqrt() * (1.0 if weight is None else weight.tensor.double())
        shift = (0.0 if bias is None else bias.tensor.double()) - mean.tensor.double() * scale
        blobs = tuple(derived(blob, (1, x.shape[1], 1, 1)) for blob in (scale, shift))
        return [call.add("BN", x, weights=blobs, bn_mode=BNParameter.INFERENCE)]
    stored = (as_held(mean), as_held(variance), Weight(np.ones(1, np.float32)))
    suffix = "" if weight is None and bias is None else NORM_SUFFIX
    y = call.add("BatchNorm", x, weights=stored, suffix=suffix, eps=epsilon)
    if not suffix:
        return [y]
    ones = Constant(torch.ones(x.shape[1]))
    return [
        call.add(
            "Scale", y, weights=(as_held(weight or ones), *([as_held(bias)] if bias else [])), bias_term=bool(bias)
        )
    ]


@op("_native_batch_norm_legit.no_stats", "_native_batch_norm_legit", "_native_batch_norm_legit_functional")
def batch_norm_of_the_batch(call: Call, x: Blob | Padded, *others: object) -> list[Blob]:
    """Nothing: with the statistics of the batch also in ``eval`` nothing that was learnt tells what it computes."""
    raise CannotSay("normalises with the statistics of the batch; expected stored ones (track_running_stats=True)")


@op("local_response_norm")
def local_response_norm(call: Call, x: Blob | Padded, size: int, alpha: float, beta: float, k: float) -> Blob:
    """LRN across channels. Both divide alpha by the size, so the numbers are the same."""
    x = call.blob(x)
    if size % 2 == 0:
        raise CannotSay(f"size {size}; expected an odd number, as Caffe's LRN has a middle")
    params = {} if k == 1 else {"k": k}
    return call.add("LRN", x, local_size=size, alpha=alpha, beta=beta, **params)
