"""Local response normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes
from prototxt.caffe_pb2 import LRNParameter


@layer("LRN")
class LRN(TorchLayer):
    """x (k + alpha / n sum x²)^-beta over n channels, or x (1 + alpha mean x²)^-beta over an n x n window.

    The divisor stays n where the window hangs over the edge. Within a channel ``k`` is not used (Caffe).

    bottom: x (N, C, H, W); top: the same shape
    """

    def setup(self) -> None:
        """Read the window."""
        param = self.message.lrn_param
        self.size, self.alpha, self.beta, self.k = param.local_size, param.alpha, param.beta, param.k
        self.within = param.norm_region == LRNParameter.WITHIN_CHANNEL
        if self.size % 2 == 0:
            raise LayerError(f"`local_size: {self.size}`; expected an odd number")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape."""
        check_axes(bottoms[0], 4)
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        (x,) = bottoms
        size, half = self.size, self.size // 2
        if self.within:
            mean, k = F.avg_pool2d(x.square(), size, 1, half), 1.0
        else:
            padded = F.pad(x.square(), (0, 0, 0, 0, half, half))
            channels = x.shape[1]
            # a sum of slices is several times faster on the few channels of an image than a pooling over channels
            if channels < size:
                mean = sum(padded[:, i : i + channels] for i in range(size)) / size
            else:
                mean = F.avg_pool3d(padded.unsqueeze(1), (size, 1, 1), stride=1).squeeze(1)
            k = self.k
        return x * (mean * self.alpha + k).pow(-self.beta)
