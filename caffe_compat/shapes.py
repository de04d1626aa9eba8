"""Shapes of blobs, and what layers ask of them."""

from __future__ import annotations

from caffe_compat.errors import LayerError

Shape = tuple[int, ...]


class MaskShape(tuple):
    """The shape of a blob of pooling indices, with the plane ``(H, W)`` that the indices point into."""

    plane: tuple[int, int]

    def __new__(cls, shape: Shape, plane: tuple[int, int]) -> MaskShape:
        """A shape that equals another one only when their planes agree."""
        self = super().__new__(cls, shape)
        self.plane = plane
        return self

    def __getnewargs__(self) -> tuple[Shape, tuple[int, int]]:
        return tuple(self), self.plane

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, tuple) and tuple.__eq__(self, other) and getattr(other, "plane", self.plane) == self.plane
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


def check_axes(shape: Shape, axes: int, what: str = "bottom") -> None:
    """Raise LayerError unless the shape has so many axes."""
    if len(shape) != axes:
        raise LayerError(f"the {what} has the shape {tuple(shape)} with {len(shape)} axes; expected {axes} axes")


def canonical_axis(axis: int, axes: int) -> int:
    """A possibly negative axis as an index. Raises LayerError when it is out of range."""
    if not -axes <= axis < axes:
        raise LayerError(f"axis {axis} is out of range; expected {-axes} to {axes - 1} for a bottom with {axes} axes")
    return axis % axes
