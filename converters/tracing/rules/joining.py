"""Several blobs as one."""

from __future__ import annotations

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.rules.shapes import as_shape
from converters.tracing.values import Blob, Padded


@op("cat")
def concat(call: Call, parts: list[Blob | Padded], axis: int) -> Blob:
    """Concat."""
    blobs = [call.blob(part) for part in parts]
    if len(blobs) == 1:
        return blobs[0]
    axis %= len(call.shape)
    return call.add("Concat", *blobs, **({} if axis == 1 else {"axis": axis}))


@op("stack")
def stack(call: Call, parts: list[Blob | Padded], axis: int) -> Blob:
    """A new axis in each, then Concat."""
    axis %= len(call.shape)
    shape = (*call.shape[:axis], 1, *call.shape[axis + 1 :])
    blobs = [as_shape(call, call.blob(part), shape, "_reshape") for part in parts]
    if len(blobs) == 1:
        return blobs[0]
    return call.add("Concat", *blobs, **({} if axis == 1 else {"axis": axis}))


@op("expand", "repeat", "expand_as")
def expand(call: Call, x: Blob | Padded, *others: object) -> Blob:
    """Tile along each axis of size 1."""
    return spread(call, call.blob(x), call.shape)


def spread(call: Call, x: Blob, shape: tuple[int, ...], suffix: str = "_tile") -> Blob:
    """A blob repeated along its axes of size 1. Raises CannotSay where that does not give the shape."""
    x = as_shape(call, x, (1,) * (len(shape) - len(x.shape)) + x.shape, "_reshape")
    for axis, (size, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        if size == wanted:
            continue
        if size != 1:
            raise CannotSay(f"{x.shape} repeated to {shape}; expected axes of size 1 to be repeated")
        x = call.add(
            "Tile", x, shape=(*x.shape[:axis], wanted, *x.shape[axis + 1 :]), suffix=suffix, axis=axis, tiles=wanted
        )
    return x
