"""Pooling and what puts pooled values back.

Caffe rounds the number of windows up, torch down unless told otherwise. The windows themselves are the same, so where
Caffe has more of them the last rows and columns are cut off, or in plain BVLC not made (``round_mode: FLOOR``).
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe_compat.layer_types.pooling import pooled_size
from converters.tracing.call import Call, by_axis, pair
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.rules.shapes import as_shape
from converters.tracing.values import Blob, Padded, Shape
from prototxt.caffe_pb2 import PoolingParameter


@op("max_pool2d_with_indices")
def max_pool(
    call: Call,
    x: Blob | Padded,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> list[Blob]:
    """Pooling, with a mask if somebody takes the indices: both are the flat position in the unpadded plane."""
    if pair(dilation) != (1, 1):
        raise CannotSay(f"dilation {pair(dilation)}; expected none in a pooling")
    taken = {node.args[1] for node in call.node.users}
    with_mask = 1 in taken
    return _pool(
        call, call.plane(x), pair(kernel), pair(stride or kernel), pair(padding), PoolingParameter.MAX, with_mask
    )


@op("max_pool2d")
def max_pool_alone(call: Call, x: Blob | Padded, kernel: Sequence[int], *window: object) -> Blob:
    """The same without indices."""
    stride, padding, dilation, _ = window
    if pair(dilation) != (1, 1):
        raise CannotSay(f"dilation {pair(dilation)}; expected none in a pooling")
    return _pool(call, call.plane(x), pair(kernel), pair(stride or kernel), pair(padding), PoolingParameter.MAX)[0]


@op("avg_pool2d")
def mean_pool(
    call: Call,
    x: Blob | Padded,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    counts_padding: bool,
    divisor: int | None,
) -> Blob:
    """Pooling with the mean; Caffe divides by the window with its padding, less what hangs over."""
    if divisor is not None:
        raise CannotSay(f"divisor_override {divisor}; expected none: Caffe divides by the size of the window")
    if not counts_padding and pair(padding) != (0, 0):
        raise CannotSay(
            f"count_include_pad=False with padding {pair(padding)}; expected True: Caffe counts the padding"
        )
    return _pool(call, call.plane(x), pair(kernel), pair(stride or kernel), pair(padding), PoolingParameter.AVE)[0]


@op("adaptive_avg_pool2d")
def adaptive_mean_pool(call: Call, x: Blob | Padded, size: Sequence[int]) -> Blob:
    """Pooling over the whole plane, or with equal windows where the plane is a multiple of the output."""
    return _adaptive(call, call.plane(x), PoolingParameter.AVE)


@op("adaptive_max_pool2d")
def adaptive_max_pool(call: Call, x: Blob | Padded, size: Sequence[int]) -> list[Blob]:
    """The same with the maximum."""
    if any(node.args[1] == 1 for node in call.node.users):
        raise CannotSay("its indices are used; expected a MaxPool2d with return_indices for that")
    return [_adaptive(call, call.plane(x), PoolingParameter.MAX)]


@op("mean.dim")
def mean(call: Call, x: Blob | Padded, axes: Sequence[int] | None, keeps_axes: bool, dtype: object) -> Blob:
    """The mean of a plane is Pooling over all of it."""
    x = call.blob(x)
    axes = sorted(axis % len(x.shape) for axis in axes or ())
    if len(x.shape) != 4 or axes != [2, 3]:
        raise CannotSay(
            f"the mean of {x.shape} over the axes {axes}; expected that of the plane: axes 2 and 3 of (N, C, H, W)"
        )
    return as_shape(call, _whole_plane(call, x, PoolingParameter.AVE, "" if keeps_axes else "_pool"), call.shape)


@op("max_unpool2d")
def unpool(call: Call, x: Blob | Padded, indices: Blob, size: Sequence[int]) -> Blob:
    """Upsample, by a scale where it gives the size, else with the size written down."""
    x = call.blob(x)
    if not isinstance(indices, Blob):
        raise CannotSay("constant indices; expected those of a MaxPool2d")
    height, width = call.shape[2:]
    scale = height // x.shape[2]
    whole = (height, width) == (scale * x.shape[2], scale * x.shape[3]) and scale > 1
    if not whole and min(height, width) < 2:
        raise CannotSay(f"an output plane of {height}x{width}; expected at least 2x2")
    params = {"scale": scale} if whole else {"upsample_h": height, "upsample_w": width}
    return call.add("Upsample", x, indices, upsample_param=params)


def _pool(
    call: Call,
    x: Blob,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    method: int,
    with_mask: bool = False,
) -> list[Blob]:
    """Pooling that gives the operation's own shape; with its mask if asked for."""
    sizes = call.shape[2:]
    axes = list(zip(x.shape[2:], kernel, stride, pad, strict=True))
    made = tuple(pooled_size(*axis, clip=pad != (0, 0)) for axis in axes)
    params: dict[str, object] = {
        "pool": method,
        **by_axis("kernel", "kernel_size", kernel),
        **by_axis("stride", "stride", stride),
        **by_axis("pad", "pad", pad),
    }
    floor = tuple(pooled_size(*axis, clip=pad != (0, 0), round_up=False) for axis in axes)
    if made != sizes == floor and call.writer.knows_field("PoolingParameter", "round_mode"):
        params["round_mode"], made = PoolingParameter.FLOOR, sizes
    name = call.name()
    shape = (*x.shape[:2], *made)
    tops = [(name, shape), *([(call.name("_mask"), shape)] if with_mask else [])]
    found = call.writer.layer(name, "Pooling", [x], tops, [], params)
    return [call.window(call.window(one, 2, 0, sizes[0]), 3, 0, sizes[1]) for one in found]


def _adaptive(call: Call, x: Blob, method: int) -> Blob:
    plane, out = x.shape[2:], call.shape[2:]
    if out == (1, 1):
        return _whole_plane(call, x, method)
    if plane == out:
        return x
    if any(size % wanted for size, wanted in zip(plane, out, strict=True)):
        raise CannotSay(
            f"windows of different sizes, from {plane} to {out}; expected a plane that is a multiple of the output"
        )
    window = (plane[0] // out[0], plane[1] // out[1])
    return _pool(call, x, window, window, (0, 0), method)[0]


def _whole_plane(call: Call, x: Blob, method: int, suffix: str = "") -> Blob:
    shape: Shape = (*x.shape[:2], 1, 1)
    return call.add("Pooling", x, shape=shape, suffix=suffix, pool=method, global_pooling=True)
