"""Layers that lay windows out: Im2col one after another, SPP as a pyramid of poolings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.convolution import read_window
from caffe_compat.layer_types.pooling import Pooling
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis, check_axes
from prototxt.caffe_pb2 import LayerParameter, PoolingParameter, SPPParameter


@layer("Im2col")
class Im2col(TorchLayer):
    """The values under each window of a convolution as channels, its zero padding included.

    bottom: x (N, C, *spatial); ``axis`` tells where C stands
    top:    y (N, C prod(kernel), *places); of the channels C counts slowest, the window's last axis fastest
    """

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Read the geometry for this bottom."""
        x = tuple(bottoms[0])
        param = self.message.convolution_param
        self.axis = canonical_axis(param.axis, len(x))
        channels, *sizes = x[self.axis :]
        if not sizes:
            raise LayerError(
                f"the bottom {x} has no spatial axes after axis {self.axis}; expected some, as in (N, C, H, W)"
            )
        self.window = read_window(param, len(sizes))
        return [(*x[: self.axis], channels * math.prod(self.window.kernel), *self.window.places(sizes))]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Lay out."""
        (x,) = bottoms
        kernel, stride, pad, dilation = self.window
        windows = F.pad(x, [side for size in reversed(pad) for side in (size, size)])
        first = self.axis + 1
        for i, extent in enumerate(self.window.extent):
            windows = windows.unfold(first + i, extent, stride[i])[..., :: dilation[i]]
        places = range(first, x.dim())
        inside = range(x.dim(), windows.dim())
        laid_out = windows.permute(*range(first), *inside, *places)
        return laid_out.flatten(self.axis, self.axis + len(kernel))


@layer("SPP")
class SPP(TorchLayer):
    """Spatial pyramid pooling (He et al., 2014): the plane pooled to 1, 2, 4, ... bins per axis, all side by side.

    bottom: x (N, C, H, W)
    top:    y (N, C (1 + 4 + 16 + ...)), so long as every level's windows come out as many as its bins
    """

    def setup(self) -> None:
        """Read the height of the pyramid."""
        param = self.message.spp_param
        self.height = param.pyramid_height
        if self.height < 1:
            raise LayerError("`pyramid_height` is 0 or missing; expected at least 1")
        self.method = PoolingParameter.PoolMethod.Value(SPPParameter.PoolMethod.Name(param.pool))
        self.levels = nn.ModuleList()

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A pooling for each level."""
        x = tuple(bottoms[0])
        check_axes(x, 4)
        self.levels = nn.ModuleList()
        length = 0
        for i in range(self.height):
            try:
                level = self._level(2**i, x[2:])
                length += math.prod(level.top_shapes(x)[0][1:])
            except LayerError as error:
                raise LayerError([f"level {i} of the pyramid: {problem}" for problem in error.problems]) from error
            self.levels.append(level)
        return [(x[0], length)]

    def _level(self, bins: int, plane: Shape) -> Pooling:
        """The pooling into so many bins per axis: windows side by side, what is missing shared by both ends."""
        message = LayerParameter(name=f"{self.name}/{bins}", type="Pooling", bottom=["x"], top=["y"])
        param = message.pooling_param
        param.pool = self.method
        for axis, size in zip("hw", plane, strict=True):
            kernel = math.ceil(size / bins)
            setattr(param, f"kernel_{axis}", kernel)
            setattr(param, f"stride_{axis}", kernel)
            setattr(param, f"pad_{axis}", (kernel * bins - size + 1) // 2)
        return Pooling(message, self.context).train(self.training)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Pool."""
        return torch.cat([level(bottoms[0]).flatten(1) for level in self.levels], dim=1)
