"""Crop: a window of one blob, as large as another."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from caffe_compat import coordinates
from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis

if TYPE_CHECKING:
    from caffe_compat.graph import Node


class Cropping(TorchLayer):
    """The window of the first bottom that begins at the offsets and is as large as the second, from an axis on.

    bottoms: x (N, C, H, W); a reference (.., .., h, w) that is only measured and gets no gradient
    top:     y (N, C, h, w)
    """

    bottoms = (2, 2)

    def window(self, axes: int) -> tuple[int, tuple[int, ...]]:
        """The first axis that is cropped, and the offsets from there on. Raises LayerError."""
        raise NotImplementedError

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The reference's sizes from the first cropped axis on."""
        x, reference = (tuple(shape) for shape in bottoms)
        self.axis, self.offsets = self.window(len(x))
        if len(reference) < len(x):
            raise LayerError(f"the reference {reference} has fewer axes than the bottom {x}; expected as many")
        for i, offset in enumerate(self.offsets, self.axis):
            if offset + reference[i] > x[i]:
                raise LayerError(
                    f"{reference[i]} values from {offset} on, on axis {i} of the bottom {x}; expected offset and "
                    f"reference {reference} to stay within its {x[i]}"
                )
        return [(*x[: self.axis], *reference[self.axis : len(x)])]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Cut out."""
        x, reference = bottoms
        window = x
        for i, offset in enumerate(self.offsets, self.axis):
            window = window.narrow(i, offset, reference.shape[i])
        # a copy, as in Caffe: a later in-place layer must not reach the bottom
        return window.clone(memory_format=torch.contiguous_format)


@layer("Crop")
class Crop(Cropping):
    """From ``axis`` on (2 by default: rows and columns), at ``offset``: none for 0, one for all axes, or one each."""

    def window(self, axes: int) -> tuple[int, tuple[int, ...]]:
        """As written."""
        param = self.message.crop_param
        axis = canonical_axis(param.axis, axes)
        written = list(param.offset) or [0]
        if len(written) not in (1, axes - axis):
            raise LayerError(
                f"{len(written)} times `offset` for the {axes - axis} axes from {axis} on; expected none, one, or one "
                "each"
            )
        return axis, tuple(written if len(written) == axes - axis else written * (axes - axis))


@layer("Crop", "deconvnet")
class AutomaticCrop(Cropping):
    """Rows and columns at offsets that follow from the layers between the two bottoms and their common origin."""

    def setup(self) -> None:
        """Nothing is written."""
        self.found: tuple[int, ...] = (0, 0)

    def connect(self, bottoms: Sequence[str], above: Sequence[Node]) -> None:
        """Find the offsets."""
        self.found = coordinates.offsets(*bottoms, above)

    def window(self, axes: int) -> tuple[int, tuple[int, ...]]:
        """As found."""
        if axes != 4:
            raise LayerError(f"a bottom with {axes} axes; expected 4, (N, C, H, W)")
        return 2, self.found

    def plane_map(self) -> coordinates.PlaneMap:
        """Shifted by the offsets."""
        return tuple(coordinates.AxisMap(shift=Fraction(-offset)) for offset in self.found)
