"""Where the values of one blob lie in another: affine maps of rows and columns along the graph.

The forks with FCN's automatic Crop compose such maps to find out how far two blobs are shifted (Caffe: coord_map).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from caffe_compat.errors import LayerError

if TYPE_CHECKING:
    from caffe_compat.graph import Node

#: Types whose tops lie where their bottoms lie.
PLACE_KEEPING = frozenset(
    {"AbsVal", "BNLL", "Dropout", "DropoutChannel", "Exp", "Power", "ReLU", "Sigmoid", "TanH", "Threshold"}
    | {"Concat", "Eltwise", "LRN", "MVN", "Slice", "Softmax", "Split"}
)


class AxisMap(NamedTuple):
    """x -> slope x + shift along one axis; exact, so that it can be asked whether a shift is a whole number."""

    slope: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def after(self, other: AxisMap) -> AxisMap:
        """First the other map, then this one."""
        return AxisMap(self.slope * other.slope, self.slope * other.shift + self.shift)

    def inverse(self) -> AxisMap:
        """The way back."""
        return AxisMap(1 / self.slope, -self.shift / self.slope)


#: For rows and for columns.
PlaneMap = tuple[AxisMap, ...]
IDENTITY: PlaneMap = (AxisMap(), AxisMap())


def spread(extent: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> PlaneMap:
    """From a value to the centre of the window that it spreads over."""
    axes = zip(extent, stride, pad, strict=True)
    return tuple(AxisMap(Fraction(s), Fraction(k - 1, 2) - p) for k, s, p in axes)


def gathered(extent: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> PlaneMap:
    """From the centre of a window to the value that is made of it."""
    return tuple(axis.inverse() for axis in spread(extent, stride, pad))


def offsets(bottom: str, reference: str, nodes: Sequence[Node]) -> tuple[int, ...]:
    """How many rows and columns of ``bottom`` lie before the first of ``reference``.

    Both are followed upwards, always to the first bottom of the layer that made a blob, until they meet.

    Raises:
        LayerError: they do not meet, a layer between says nothing of places, or the shift is no number of rows.
    """
    makers: dict[str, Node] = {}
    for node in nodes:
        for top in node.tops:
            if top not in node.bottoms:  # an in-place layer makes no blob
                makers[top] = node
    above = set(_way_up(bottom, makers))
    common = next((name for name in _way_up(reference, makers) if name in above), None)
    if common is None:
        raise LayerError(f"{bottom!r} and {reference!r} come from no common blob; expected both to be made of one")
    to_bottom, to_reference = (_map_down(common, name, makers) for name in (bottom, reference))
    found = [theirs.after(ours.inverse()) for theirs, ours in zip(to_reference, to_bottom, strict=True)]
    for axis in found:
        problem = _problem(axis)
        if problem:
            raise LayerError(f"{bottom!r} cannot be cut to {reference!r}: {problem}")
    return tuple(int(-axis.shift) for axis in found)


def _problem(axis: AxisMap) -> str:
    """What keeps a shift from being a number of rows or columns to leave out."""
    if axis.slope != 1:
        return f"a step in it is {axis.slope} steps there; expected both scaled alike"
    if axis.shift > 0:
        return f"it begins {axis.shift} behind the first value there; expected more padding before it"
    if axis.shift.denominator != 1:
        return f"it begins {-axis.shift} before the first value there; expected a whole number"
    return ""


def _way_up(name: str, makers: dict[str, Node]) -> Iterator[str]:
    """A blob and what it was made of, up to an input."""
    yield name
    while name in makers and makers[name].bottoms:
        name = makers[name].bottoms[0]
        yield name


def _map_down(common: str, name: str, makers: dict[str, Node]) -> PlaneMap:
    """From places in ``common`` to places in a blob that was made of it."""
    total = IDENTITY
    while name != common:
        node = makers[name]
        step = node.layer.plane_map()
        if step is None or len(step) != len(total):
            raise LayerError(
                f"nothing is known of how rows and columns go through {node.where}; expected layers between "
                f"{common!r} and here that keep or scale them"
            )
        total = tuple(after.after(before) for after, before in zip(total, step, strict=True))
        name = node.bottoms[0]
    return total
