"""Interp: bilinear resizing (DeepLab)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes


@layer("Interp")
class Interp(TorchLayer):
    """Bilinear resizing in which the corners stay where they are; no smoothing where it shrinks.

    bottom: x (N, C, H, W); negative ``pad_beg`` and ``pad_end`` crop it first, before and behind, rows and columns
    top:    y (N, C, h, w). With ``shrink_factor`` z alone (H - 1) // z + 1; with ``zoom_factor`` alone
            (H - 1) z + 1; else ``height`` and ``width``; else shrunk, then zoomed. What is written counts, also
            where it is the default.
    """

    def setup(self) -> None:
        """Read the sizes."""
        param = self.message.interp_param
        self.crop = -param.pad_beg, -param.pad_end
        if min(self.crop) < 0:
            raise LayerError(
                f"`pad_beg: {param.pad_beg}` and `pad_end: {param.pad_end}`; expected none above 0: they crop"
            )
        self.shrink = param.shrink_factor if param.HasField("shrink_factor") else None
        self.zoom = param.zoom_factor if param.HasField("zoom_factor") else None
        one_factor = (self.shrink is None) != (self.zoom is None)
        has_size = param.HasField("height") and param.HasField("width")
        self.written = (param.height, param.width) if has_size and not one_factor else None
        if self.shrink is None and self.zoom is None and self.written is None:
            raise LayerError("no size; expected `zoom_factor`, `shrink_factor`, or `height` and `width`")
        if min(param.shrink_factor, param.zoom_factor) < 1:
            raise LayerError(
                f"`shrink_factor: {param.shrink_factor}` and `zoom_factor: {param.zoom_factor}`; expected at least 1"
            )

    def _scaled(self, size: int) -> int:
        """One axis by the factors."""
        return (size - 1) // (self.shrink or 1) * (self.zoom or 1) + 1

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Resized."""
        (x,) = bottoms
        check_axes(x, 4)
        cropped = [size - sum(self.crop) for size in x[2:]]
        self.size = self.written or tuple(self._scaled(size) for size in cropped)
        if min(*cropped, *self.size) < 1:
            raise LayerError(
                f"the bottom {tuple(x)}, cropped to {cropped[0]}x{cropped[1]}, is resized to "
                f"{self.size[0]}x{self.size[1]}; expected at least 1x1"
            )
        return [(*x[:2], *self.size)]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Resize."""
        (x,) = bottoms
        if any(self.crop):
            first, last = self.crop
            x = x[:, :, first : x.shape[2] - last, first : x.shape[3] - last]
        if x.shape[2:] == self.size:
            return x.clone(memory_format=torch.contiguous_format)
        return F.interpolate(x, self.size, mode="bilinear", align_corners=True)
