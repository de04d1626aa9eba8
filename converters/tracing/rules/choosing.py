"""Softmax, and the largest of several values."""

from __future__ import annotations

import logging

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op
from converters.tracing.rules.shapes import as_shape
from converters.tracing.values import Blob, Padded

log = logging.getLogger(__name__)


@op("softmax", "_softmax")
def softmax(call: Call, x: Blob | Padded, axis: int, *others: object) -> Blob:
    """Softmax."""
    x = call.blob(x)
    return call.add("Softmax", x, **_axis(axis, x))


@op("log_softmax", "_log_softmax")
def log_softmax(call: Call, x: Blob | Padded, axis: int, *others: object) -> Blob:
    """Softmax, then Log: probabilities below float32's smallest number give minus infinity."""
    x = call.blob(x)
    log.warning("%s: as Softmax and Log it gives -inf below about -103, and less exact values before", call.where)
    return call.add("Log", call.add("Softmax", x, suffix="_softmax", **_axis(axis, x)))


@op("argmax")
def argmax(call: Call, x: Blob | Padded, axis: int | None, keeps_axis: bool) -> Blob:
    """ArgMax, as floats."""
    return _along(call, call.blob(x), axis, keeps_axis, {})


@op("amax")
def largest(call: Call, x: Blob | Padded, axes: list[int], keeps_axes: bool) -> Blob:
    """ArgMax that gives the value."""
    if len(axes) != 1:
        raise CannotSay(f"the maximum over {len(axes)} axes; expected one")
    return _along(call, call.blob(x), axes[0], keeps_axes, {"out_max_val": True})


@op("max.dim")
def largest_and_place(call: Call, x: Blob | Padded, axis: int, keeps_axis: bool) -> list[Blob]:
    """Both; each only if somebody takes it."""
    x = call.blob(x)
    taken = {node.args[1] for node in call.node.users}
    values = _along(call, x, axis, keeps_axis, {"out_max_val": True}) if 0 in taken else x
    if 1 not in taken:
        return [values]
    return [values, _along(call, x, axis, keeps_axis, {}, "_argmax" if 0 in taken else "")]


def _along(
    call: Call, x: Blob, axis: int | None, keeps_axis: bool, params: dict[str, object], suffix: str = ""
) -> Blob:
    if axis is None:
        raise CannotSay("over all values at once; expected one axis")
    if "out_max_val" not in params:
        log.warning("%s: of equal values Caffe's ArgMax names the last, torch mostly the first", call.where)
    axis %= len(x.shape)
    kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    inner = suffix if keeps_axis else f"{suffix}_kept"
    found = call.add("ArgMax", x, shape=kept, suffix=inner, axis=axis, **params)
    return found if keeps_axis else as_shape(call, found, call.shape, suffix)


def _axis(axis: int, x: Blob) -> dict[str, int]:
    axis %= len(x.shape)
    return {} if axis == 1 else {"axis": axis}
