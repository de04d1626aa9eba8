"""MVN: mean-variance normalisation of each plane."""

from __future__ import annotations

import torch

from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.bn import normalise
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes


@layer("MVN")
class MVN(TorchLayer):
    """(x - mean) / (deviation + eps) over each plane, or over each item with ``across_channels``.

    Without ``normalize_variance`` only the mean goes. eps is added to the deviation, not to the variance (Caffe).

    bottom: x (N, C, H, W); top: the same shape
    """

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.mvn_param
        self.scales, self.epsilon = param.normalize_variance, param.eps
        self.axes = (1, 2, 3) if param.across_channels else (2, 3)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape."""
        check_axes(bottoms[0], 4)
        return [bottoms[0]]

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean that is taken away."""
        return x.mean(self.axes, keepdim=True)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        (x,) = bottoms
        if not self.scales:
            return x - self.mean(x)
        planes = x.flatten(self.axes[0]).flatten(0, -2).unsqueeze(0)  # as channels of one item
        return normalise(planes, None, None, self.epsilon, outside=True)[0].view(x.shape)


@layer("MVN", "segnet")
class MVNSegNet(MVN):
    """The older code, which without ``normalize_variance`` forgets the mean in the gradient."""

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """A mean that no gradient passes."""
        return super().mean(x).detach()
