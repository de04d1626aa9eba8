"""Convolutions, their transposes and fully connected layers: the weights are Caffe's bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

from converters.tracing.call import Call, by_axis, pair
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.values import Blob, Constant, Padded, Weight, as_held


@op("conv2d")
def convolution(
    call: Call,
    x: Blob | Padded,
    weight: object,
    bias: Constant | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Blob:
    """Convolution. Zeros around the bottom that are alike on opposite sides join its own; ``same`` may need a cut."""
    weights = _weights(weight, bias)
    kernel, stride, dilation = tuple(weight.tensor.shape[2:]), pair(stride), pair(dilation)
    before, after = _sides(padding, kernel, dilation)
    if isinstance(x, Padded) and x.pads[0] == x.pads[1] and x.pads[2] == x.pads[3]:
        before = (before[0] + x.pads[0], before[1] + x.pads[2])
        after = (after[0] + x.pads[1], after[1] + x.pads[3])
        x = x.blob
    x = call.plane(x)
    pad = (max(before[0], after[0]), max(before[1], after[1]))
    channels, sizes = weight.tensor.shape[0], list(call.shape[2:])
    # what torch pads less on one side ("same" with an even extent; its stride is 1 then) is cut off afterwards
    wide = [size + 2 * p - b - a for size, p, b, a in zip(sizes, pad, before, after, strict=True)]
    y = call.add(
        "Convolution",
        x,
        shape=(x.shape[0], channels, *wide),
        weights=weights,
        **_window(channels, kernel, stride, pad, dilation, groups, bias),
    )
    for axis in (0, 1):
        y = call.window(y, 2 + axis, pad[axis] - before[axis], sizes[axis])
    return y


@op("conv_transpose2d")
def deconvolution(
    call: Call,
    x: Blob | Padded,
    weight: object,
    bias: Constant | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Blob:
    """Deconvolution. ``output_padding`` is less padding on the far side: Caffe pads less, and a Slice cuts the near."""
    weights = _weights(weight, bias)
    x = call.plane(x)
    padding, extra = pair(padding), pair(output_padding)
    if any(more > pad for more, pad in zip(extra, padding, strict=True)):
        raise CannotSay(
            f"output_padding {extra} with padding {padding}; expected output_padding up to padding: Caffe's "
            "Deconvolution gives nothing beyond what its filters reach"
        )
    pad = (padding[0] - extra[0], padding[1] - extra[1])
    channels, sizes = weight.tensor.shape[1] * groups, call.shape[2:]
    y = call.add(
        "Deconvolution",
        x,
        shape=(call.shape[0], channels, sizes[0] + extra[0], sizes[1] + extra[1]),
        weights=weights,
        convolution_param=_window(
            channels, tuple(weight.tensor.shape[2:]), pair(stride), pad, pair(dilation), groups, bias
        ),
    )
    for axis in (0, 1):
        y = call.window(y, 2 + axis, extra[axis], sizes[axis])
    return y


@op("linear")
def inner_product(call: Call, x: Blob | Padded, weight: object, bias: Constant | None) -> Blob:
    """InnerProduct over the last axis."""
    x = call.blob(x)
    weights = _weights(weight, bias)
    axis = len(x.shape) - 1
    params = {} if axis == 1 else {"axis": axis}
    outputs = weight.tensor.shape[0]
    return call.add("InnerProduct", x, weights=weights, num_output=outputs, **_bias_term(bias), **params)


@op("conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d")
def other_axes(call: Call, *others: object) -> Blob:
    """Nothing: nets of images are what this is for."""
    raise CannotSay("a convolution over 1 or 3 axes; expected 2: (N, C, H, W)")


def _weights(weight: object, bias: Constant | None) -> tuple[Weight, ...]:
    for blob, name in ((weight, "weight"), (bias, "bias")):
        if not (isinstance(blob, Constant) or (blob is None and name == "bias")):
            raise CannotSay(f"its {name} depends on the inputs; expected a parameter")
    return (as_held(weight), *([as_held(bias)] if bias else []))


def _bias_term(bias: Constant | None) -> dict[str, object]:
    return {} if bias else {"bias_term": False}


def _window(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    bias: Constant | None,
) -> dict[str, object]:
    return {
        "num_output": channels,
        **_bias_term(bias),
        **by_axis("pad", "pad", pad),
        **by_axis("kernel", "kernel_size", kernel),
        **by_axis("stride", "stride", stride),
        **({} if dilation == (1, 1) else {"dilation": sorted(set(dilation)) if len(set(dilation)) == 1 else dilation}),
        **({} if groups == 1 else {"group": groups}),
    }


def _sides(
    padding: Sequence[int] | str, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding before and behind, rows and columns; "same" puts the odd one behind (torch.nn.Conv2d)."""
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[1] // 2), (total[0] - total[0] // 2, total[1] - total[1] // 2)
    pads = (0, 0) if padding == "valid" else pair(padding)
    return pads, pads
