"""Interpolation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from converters.tracing.call import FIXED, Call, by_axis
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.values import Blob, Padded, Weight


@op("upsample_nearest2d", "_upsample_nearest_exact2d")
def nearest(call: Call, x: Blob | Padded, size: object, *scales: object) -> Blob:
    """Each value as a block: a Deconvolution with ones, as wide as its stride."""
    x = call.blob(x)
    factors = _factors(x, call)
    mode = "nearest" if call.operation == "upsample_nearest2d" else "nearest-exact"
    scales = _by_axis(scales)
    if factors is None or not all(map(_in_blocks, x.shape[2:], factors, scales, (mode, mode))):
        raise CannotSay(
            f"nearest from {x.shape[2:]} to {call.shape[2:]}{_told(scales)}; expected whole multiples, each value as "
            "a block"
        )
    return _blocks(call, x, factors)


@op("upsample_bilinear2d")
def bilinear(call: Call, x: Blob | Padded, size: object, corners_stay: bool, *scales: object) -> Blob:
    """Interp where the corners stay; else, for whole factors, edges repeated and a Deconvolution.

    Without ``align_corners`` torch repeats the values at the edge where Caffe's deconvolution has zeros.
    """
    x = call.blob(x)
    height, width = call.shape[2:]
    if x.shape[2:] == (1, 1):
        return _blocks(call, x, (height, width))
    if corners_stay:
        return x if x.shape == call.shape else call.add("Interp", x, height=height, width=width)
    factors, scales = _factors(x, call), _by_axis(scales)
    # a scale that does not give the size exactly still tells torch where the values lie
    if factors is None or any(scale not in (None, factor) for scale, factor in zip(scales, factors, strict=True)):
        raise CannotSay(
            f"bilinear from {x.shape[2:]} to {(height, width)}{_told(scales)} with align_corners=False; expected whole "
            "multiples, and that scale_factor or none, or "
            "align_corners=True and --dialect deeplab"
        )
    if factors == (1, 1):
        return x
    for axis in (0, 1):
        if factors[axis] > 1:
            x = _edges_repeated(call, x, 2 + axis)
    windows = [_bilinear_window(factor) for factor in factors]
    kernel, pad = (tuple(window[i] for window in windows) for i in (0, 1))
    # filler.hpp, BilinearFiller: the window of each factor is 1 - |i / f - c|
    filter = torch.outer(*(_bilinear_weights(size) for size in kernel)).float()
    weights = filter.expand(x.shape[1], 1, *kernel).contiguous().numpy()
    filler = {"weight_filler": {"type": "bilinear"}} if kernel[0] == kernel[1] else {}
    return _depthwise(call, x, weights, kernel, factors, pad, filler)


def _factors(x: Blob, call: Call) -> tuple[int, int] | None:
    sizes = list(zip(x.shape[2:], call.shape[2:], strict=True))
    return None if any(out % size for size, out in sizes) else tuple(out // size for size, out in sizes)


def _by_axis(scales: tuple[object, ...]) -> tuple[float | None, float | None]:
    """The scale factors that the operation was given for rows and columns: as one list, or each by itself."""
    given = scales[0] if len(scales) == 1 else scales
    return (None, None) if given is None else tuple(given)


def _told(scales: tuple[float | None, float | None]) -> str:
    return "" if scales == (None, None) else f" with the scale factors {scales}"


def _in_blocks(size: int, factor: int, scale: float | None, mode: str) -> bool:
    """Whether torch's nearest gives each value ``factor`` times: it multiplies in float32, and may round elsewhere."""
    values = torch.arange(size, dtype=torch.float32)
    wanted = {"size": size * factor} if scale is None else {"scale_factor": scale}
    return torch.equal(F.interpolate(values[None, None], mode=mode, **wanted)[0, 0], values.repeat_interleave(factor))


def _blocks(call: Call, x: Blob, factors: tuple[int, int]) -> Blob:
    weights = torch.ones(x.shape[1], 1, *factors).numpy()
    return _depthwise(call, x, weights, factors, factors, (0, 0), {"weight_filler": {"type": "constant", "value": 1}})


def _bilinear_window(factor: int) -> tuple[int, int]:
    """The kernel for a factor and the padding that takes the repeated edge away again; 1 and 0 for a factor of 1."""
    return (1, 0) if factor == 1 else (2 * factor - factor % 2, (factor - factor % 2) // 2 + factor)


def _bilinear_weights(kernel: int) -> torch.Tensor:
    half = (kernel + 1) // 2
    centre = (2 * half - 1 - half % 2) / (2.0 * half)
    return 1 - (torch.arange(kernel, dtype=torch.float64) / half - centre).abs()


def _depthwise(
    call: Call,
    x: Blob,
    weights: object,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    filler: dict[str, object],
) -> Blob:
    return call.add(
        "Deconvolution",
        x,
        weights=(Weight(weights),),
        param=FIXED,
        convolution_param={
            "num_output": x.shape[1],
            "group": x.shape[1],
            "bias_term": False,
            **by_axis("kernel", "kernel_size", kernel),
            **by_axis("stride", "stride", stride),
            **by_axis("pad", "pad", pad),
            **filler,
        },
    )


def _edges_repeated(call: Call, x: Blob, axis: int) -> Blob:
    """The first and the last row or column twice."""
    first, last = call.window(x, axis, 0, 1, "_first"), call.window(x, axis, x.shape[axis] - 1, 1, "_last")
    shape = (*x.shape[:axis], x.shape[axis] + 2, *x.shape[axis + 1 :])
    return call.add("Concat", first, x, last, shape=shape, suffix="_edges", **({} if axis == 1 else {"axis": axis}))
