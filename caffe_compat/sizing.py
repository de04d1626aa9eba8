"""The input size of a net whose data is not there: the largest that its fixed upsampling sizes allow."""

from __future__ import annotations

from collections.abc import Callable

from caffe_compat import registry
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import Context, TorchLayer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import NetParameter

PAPER_SIZE = (360, 480)
"""Height and width of the road scenes in the paper."""
_LARGEST = 4096


def with_guessed_size(net: NetParameter, context: Context) -> Context:
    """The context, with a ``fallback_size`` when some data layer of the net must guess its size."""
    layers = _make(net, context)
    if not any(layer.must_guess_size() for layer in layers):
        return context
    return context._replace(fallback_size=_largest(net, layers, context) or PAPER_SIZE)


def _make(net: NetParameter, context: Context) -> list[TorchLayer]:
    """Every layer that can be made; what is wrong with the others is told when the graph is built."""
    layers = []
    for message in net.layer:
        cls = registry.find(message.type, context.dialect)
        try:
            layers += [cls(message, context)] if cls is not None else []
        except LayerError:
            continue
    return layers


def _largest(net: NetParameter, layers: list[TorchLayer], context: Context) -> tuple[int, int] | None:
    """Per axis, the largest size whose planes all fit. Planes grow with the input, so halving finds it."""

    def fits(axis: int) -> Callable[[int], bool]:
        def fit(size: int) -> bool:
            pairs = _planes(net, layers, context, (size, size))
            return all(plane[axis] <= pinned[axis] for plane, pinned in pairs)

        return fit

    if not _planes(net, layers, context, PAPER_SIZE):
        return None
    height, width = (_last_true(fits(axis)) for axis in (0, 1))
    return (height, width) if height and width else None


def _last_true(holds: Callable[[int], bool]) -> int:
    """The largest number up to _LARGEST for which a falling condition holds; 0 when it never does."""
    low, high = 0, _LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _planes(
    net: NetParameter, layers: list[TorchLayer], context: Context, size: tuple[int, int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """For each upsampling of fixed size: the plane that its indices point into, and that size."""
    shapes: dict[str, Shape] = dict(context.input_shapes)
    pairs = []
    for layer in layers:
        bottoms = [shapes.get(bottom) for bottom in layer.message.bottom]
        pinned = layer.pinned_plane()
        plane = getattr(bottoms[-1], "plane", None) if bottoms else None
        if pinned and plane:
            pairs.append((plane, pinned))
        if layer.is_source:
            layer.context = context._replace(fallback_size=size)
        try:
            tops = layer.top_shapes(*bottoms) if None not in bottoms else []
        except LayerError:
            tops = []
        shapes.update(zip(layer.message.top, tops, strict=False))
    return pairs
