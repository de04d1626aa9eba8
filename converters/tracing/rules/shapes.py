"""The same values in another shape, and parts of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.values import Blob, Padded, Shape


@op("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
def reshape(call: Call, x: Blob | Padded, *others: object) -> Blob:
    """Flatten or Reshape."""
    return as_shape(call, call.blob(x), call.shape)


@op("permute", "transpose", "t")
def permute(call: Call, x: Blob | Padded, *others: object) -> Blob:
    """Reshape, where only axes of size 1 change places; Caffe moves no values about."""
    x = call.blob(x)
    order = _order(call, len(x.shape), *others)
    if [axis for axis in order if x.shape[axis] != 1] != [axis for axis in range(len(order)) if x.shape[axis] != 1]:
        raise CannotSay(f"{x.shape} with its axes in the order {order}; expected only axes of size 1 to change places")
    return as_shape(call, x, call.shape)


@op("slice")
def part(call: Call, x: Blob | Padded, axis: int, start: int | None, end: int | None, step: int) -> Blob:
    """Slice, whose other parts nobody takes."""
    x = call.blob(x)
    if step != 1:
        raise CannotSay(f"every {step}th value of an axis; expected all of a range")
    axis %= len(x.shape)
    start, end, _ = slice(start, end).indices(x.shape[axis])
    return _window(call, x, axis, start, end - start)


@op("narrow")
def narrow(call: Call, x: Blob | Padded, axis: int, start: int, length: int) -> Blob:
    """The same."""
    x = call.blob(x)
    return _window(call, x, axis % len(x.shape), start % x.shape[axis], length)


@op("select")
def select(call: Call, x: Blob | Padded, axis: int, index: int) -> Blob:
    """One value of an axis, which is then left out."""
    x = call.blob(x)
    axis %= len(x.shape)
    one = call.window(x, axis, index % x.shape[axis], 1)
    return as_shape(call, one, call.shape)


@op("split", "split_with_sizes", "chunk", "unbind")
def split(call: Call, x: Blob | Padded, *others: object) -> list[Blob]:
    """Slice into all of the parts."""
    x = call.blob(x)
    shapes = call.shapes
    axis = others[0] if call.operation == "unbind" else others[1]
    axis %= len(x.shape)
    parts = [shape[axis] for shape in shapes] if call.operation != "unbind" else [1] * len(shapes)
    if len(parts) == 1:
        return [as_shape(call, x, shapes[0])]
    name = call.name()
    tops = [(call.name(f"_{i}"), (*x.shape[:axis], size, *x.shape[axis + 1 :])) for i, size in enumerate(parts)]
    points = [sum(parts[: i + 1]) for i in range(len(parts) - 1)]
    found = call.writer.layer(name, "Slice", [x], tops, [], {"axis": axis, "slice_point": points})
    return [as_shape(call, one, shape, "_reshape") for one, shape in zip(found, shapes, strict=True)]


@op("pad", "constant_pad_nd")
def pad(call: Call, x: Blob | Padded, sides: Sequence[int], *others: object) -> Blob | Padded:
    """Zeros around the plane, which wait for a convolution to take them; negative ones cut."""
    x = call.blob(x)
    mode, value = others if len(others) == 2 else ("constant", *others)
    if mode != "constant":
        raise CannotSay(f"padding with mode {mode!r}; expected zeros")
    if value:
        raise CannotSay(f"padding with {value:g}; expected zeros")
    sides = [*sides, *[0] * (2 * len(x.shape) - len(sides))]
    for i in range(len(x.shape)):  # from the last axis on
        axis = len(x.shape) - 1 - i
        before, after = (min(side, 0) for side in sides[2 * i : 2 * i + 2])
        x = call.window(x, axis, -before, x.shape[axis] + before + after)
    left, right, above, below, *more = (max(side, 0) for side in sides)
    if len(x.shape) != 4 or any(more):
        raise CannotSay(
            f"zeros around a blob of the shape {x.shape}, {tuple(sides)}; expected them around a plane (H, W)"
        )
    return Padded(x, (above, below, left, right)) if any((left, right, above, below)) else x


def as_shape(call: Call, x: Blob, shape: Shape, suffix: str = "") -> Blob:
    """A blob in another shape. Axes that stay are written as 0, so that the net takes other batches too."""
    if x.shape == shape:
        return x
    if shape == (x.shape[0], math.prod(x.shape[1:])):
        return call.add("Flatten", x, shape=shape, suffix=suffix)
    dims = [
        0 if i < len(x.shape) and x.shape[i] == size and x.shape[:i] == shape[:i] else size
        for i, size in enumerate(shape)
    ]
    return call.add("Reshape", x, shape=shape, suffix=suffix, reshape_param={"shape": {"dim": dims}})


def _window(call: Call, x: Blob, axis: int, start: int, length: int) -> Blob:
    if length < 1:
        raise CannotSay(f"an empty part of axis {axis}; expected at least one value")
    return call.window(x, axis, start, length, suffix="")


def _order(call: Call, axes: int, *others: object) -> list[int]:
    if call.operation == "permute":
        return [axis % axes for axis in others[0]]
    first, second = (axis % axes for axis in (others or (0, 1)))
    order = list(range(axes))
    order[first], order[second] = order[second], order[first]
    return order
