"""Convolutions and labels as an engine runs them: by rows, so that a plane can be worked off in strips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from caffe_compat.engine import onednn
from caffe_compat.engine.onednn import Geometry
from caffe_compat.engine.rows import Rows


class Convolution:
    """A convolution with its bias, and with a ReLU where there is one, in one pass.

    Args:
        weight: (outputs, inputs / groups, h, w); its type is what is computed in.
        bias: (outputs,), or None.
        geometry: of the window.
        relu: whether negative values become zero.
        plane: (H, W) of the usual input, for which oneDNN lays the weights out.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry, relu: bool, plane: Sequence[int]
    ) -> None:
        self.bias, self.geometry, self.relu, self.dtype = bias, geometry, relu, weight.dtype
        self.reach = geometry.pad[0]
        self.extent = geometry.dilation[0] * (weight.shape[2] - 1) + 1
        self.packed = onednn.is_able(weight.device, weight.dtype)
        if self.packed:
            self.weight = onednn.pack(weight, geometry, plane)
        else:
            self.weight = weight.contiguous(memory_format=torch.channels_last)

    @property
    def keeps_rows(self) -> bool:
        """Whether a row is made of those around it, as strips ask for."""
        return self.geometry.stride[0] == 1 and self.extent == 2 * self.reach + 1

    def height(self, height: int) -> int:
        """As Caffe counts."""
        return (height + 2 * self.reach - self.extent) // self.geometry.stride[0] + 1

    def needs(self, wanted: Rows, height: int) -> Rows:
        """Half a window above and below; everything where rows are not kept."""
        if not self.keeps_rows:
            return Rows(0, height)
        return Rows(wanted.first - self.reach, wanted.end + self.reach).within(height)

    def __call__(self, x: torch.Tensor, held: Rows, wanted: Rows, height: int) -> torch.Tensor:
        """Convolve. Beyond the plane there are zeros, beyond a strip there is nothing to add."""
        needed = self.needs(wanted, height)
        x = x[:, :, needed.first - held.first : needed.end - held.first]
        pad = self.geometry.pad
        if needed == Rows(0, height) or not self.keeps_rows:
            made, first = self._run(x, pad), 0
        elif needed == (wanted.first - self.reach, wanted.end + self.reach):
            made, first = self._run(x, (0, pad[1])), wanted.first
        else:  # at one edge of the plane: the rows at the other end are too many
            made, first = self._run(x, pad), needed.first
        return made[:, :, wanted.first - first : wanted.end - first]

    def _run(self, x: torch.Tensor, pad: Sequence[int]) -> torch.Tensor:
        x = x.to(self.dtype)
        if self.packed:
            return onednn.convolve(x, self.weight, self.bias, self.geometry, pad, self.relu)
        stride, _, dilation, groups = self.geometry
        made = F.conv2d(x, self.weight, self.bias, stride, pad, dilation, groups)
        return made.relu_() if self.relu else made


class Labels:
    """The class of each pixel: of equal scores the first, or the last as ArgMax takes it."""

    def __init__(self, last: bool = False) -> None:
        self.last = last

    def height(self, height: int) -> int:
        """The same."""
        return height

    def needs(self, wanted: Rows, height: int) -> Rows:
        """The same."""
        return wanted

    def __call__(self, x: torch.Tensor, held: Rows, wanted: Rows, height: int) -> torch.Tensor:
        """Scores (N, K, H, W) to labels (N, 1, H, W), uint8 where there are at most 256."""
        x = x[:, :, wanted.first - held.first : wanted.end - held.first]
        classes = x.shape[1]
        found = classes - 1 - x.flip(1).argmax(1, keepdim=True) if self.last else x.argmax(1, keepdim=True)
        return found.to(torch.uint8 if classes <= 256 else torch.int32)
