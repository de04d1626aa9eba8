"""Deconvolution: the transpose of Convolution, with which FCN and DeconvNet enlarge their maps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe_compat.coordinates import PlaneMap, spread
from caffe_compat.layer_types.convolution import Filtering
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape

_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@layer("Deconvolution")
class Deconvolution(Filtering):
    """Each value of the bottom spreads its filter over the top, and overlaps add.

    bottoms: any number of (N, C, *spatial), all of one shape; ``axis`` tells where C stands
    tops:    as many (N, num_output, *out), out = stride (in - 1) + dilation (k - 1) + 1 - 2 pad
    blobs:   weight (C, num_output / group, *kernel), bias (num_output,); a filler's fan_in and fan_out are therefore
             those of the transposed layer (Caffe)
    """

    def out_sizes(self, sizes: Shape) -> Shape:
        """The plane that the windows cover."""
        return self.window.covered(sizes)

    def weight_shape(self, channels: int) -> Shape:
        """A filter for each input."""
        return (channels, self.param.num_output // self.group, *self.window.kernel)

    def filter(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Spread the values."""
        kernel, stride, pad, dilation = self.window
        return _TRANSPOSED[len(kernel)](x, self.weight, bias, stride, pad, 0, self.group, dilation)

    def plane_map(self) -> PlaneMap:
        """Each value spreads around its place."""
        return spread(self.window.extent, self.window.stride, self.window.pad)

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """Every input value takes one multiply-add per weight of its filter."""
        per_value = self.param.num_output // self.group * math.prod(self.window.kernel)
        return sum(math.prod(bottom) for bottom in bottoms) * per_value
