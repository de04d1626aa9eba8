"""Layers that treat every value by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape


class Neuron(TorchLayer):
    """One bottom, one top of the same shape."""

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape."""
        return [bottoms[0]]


@layer("ReLU")
class ReLU(Neuron):
    """max(x, 0) + negative_slope min(x, 0); the gradient at 0 is the slope."""

    def setup(self) -> None:
        """Read the slope."""
        self.slope = self.message.relu_param.negative_slope

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Rectify."""
        (x,) = bottoms
        if self.slope:
            return F.leaky_relu(x, self.slope, inplace=self.may_overwrite())
        return x.relu_() if self.may_overwrite() else x.relu()


@layer("Dropout")
class Dropout(Neuron):
    """Zero each value with probability ``dropout_ratio`` and divide the others by 1 - ratio.

    Active in TRAIN and, with ``sample_weights_test``, also in TEST: Bayesian SegNet draws its Monte-Carlo samples
    so. Otherwise the identity.
    """

    def setup(self) -> None:
        """Read the ratio."""
        param = self.message.dropout_param
        self.ratio, self.samples_in_test = param.dropout_ratio, param.sample_weights_test
        if not 0 < self.ratio < 1:
            raise LayerError(f"`dropout_ratio: {self.ratio}`; expected a number between 0 and 1")

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Drop values, or pass them on."""
        (x,) = bottoms
        if not (self.training or self.samples_in_test):
            return x if self.may_overwrite() else x.clone()  # a layer in place after it must not reach x
        return F.dropout(x, self.ratio, training=True, inplace=self.may_overwrite())


@layer("DropoutChannel")
class DropoutChannel(Dropout):
    """Zero whole channels with probability ``dropout_ratio`` in TRAIN and divide the others by 1 - ratio (DeconvNet).

    bottom: x (N, C, ...). One draw for each item and channel, as on Caffe's GPU; its CPU code draws for each value.
    """

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Drop channels, or pass all on."""
        (x,) = bottoms
        if not self.training:
            return super().forward(x)
        return torch.feature_dropout(x, self.ratio, True)
