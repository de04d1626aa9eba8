"""Operations that change nothing in the values."""

from __future__ import annotations

from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.registry import op

_NUMBERS = "float32"


@op("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "lift_fresh")
def unchanged(call: Call, x: object, *others: object) -> object:
    """What it is given."""
    return x


@op("to", "_to_copy")
def converted(call: Call, x: object, *others: object) -> object:
    """What it is given, where the numbers stay float32: Caffe has no others. Indices are floats there anyway."""
    kind = str(call.node.meta["val"].dtype).removeprefix("torch.")
    if kind != _NUMBERS:
        raise CannotSay(f"numbers become {kind}; expected {_NUMBERS}, as Caffe has no others")
    return x


@op("_assert_tensor_metadata", "_assert_async", "_assert_scalar")
def assertion(call: Call, *others: object) -> None:
    """Nothing: torch.export has checked it."""
