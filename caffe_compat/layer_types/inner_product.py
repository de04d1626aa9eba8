"""Fully connected layers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, TorchLayer, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis


@layer("InnerProduct")
class InnerProduct(TorchLayer):
    """Every output from all values of an item.

    bottom: x (N, ...), flattened from ``axis`` on to K values
    top:    y (N, num_output)
    blobs:  weight (num_output, K), or (K, num_output) with ``transpose``; bias (num_output,)
    """

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.inner_product_param
        self.outputs, self.has_bias, self.transposed = param.num_output, param.bias_term, param.transpose
        if self.outputs < 1:
            raise LayerError("`num_output` is 0 or missing; expected at least 1")
        check_filler(param.weight_filler)
        check_filler(param.bias_filler)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """What stands before the axis, then the outputs."""
        (x,) = bottoms
        self.axis = canonical_axis(self.message.inner_product_param.axis, len(x))
        weight = getattr(self, "weight", None)
        if weight is not None and tuple(weight.shape) != self._weight_shape(x):
            raise LayerError(
                f"the bottom {tuple(x)} takes weights of the shape {self._weight_shape(x)}; this layer's have "
                f"{tuple(weight.shape)}: an inner product fixes the size of its input"
            )
        return [(*x[: self.axis], self.outputs)]

    def _weight_shape(self, x: Shape) -> Shape:
        shape = (self.outputs, math.prod(x[self.axis :]))
        return shape[::-1] if self.transposed else shape

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The weights and, unless ``bias_term: false``, the bias."""
        param = self.message.inner_product_param
        specs = [BlobSpec("weight", self._weight_shape(bottoms[0]), param.weight_filler)]
        return specs + ([BlobSpec("bias", (self.outputs,), param.bias_filler)] if self.has_bias else [])

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        weight = self.weight.T if self.transposed else self.weight
        return F.linear(bottoms[0].flatten(self.axis), weight, self.bias if self.has_bias else None)

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """One for each weight and item."""
        return math.prod(tops[0]) * math.prod(bottoms[0][self.axis :])


@layer("Embed")
class Embed(TorchLayer):
    """A row of the weights for each index. The indices get no gradient.

    bottom: indices, any shape, whole numbers below ``input_dim``
    top:    the bottom's shape and num_output
    blobs:  weight (input_dim, num_output), bias (num_output,)
    """

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.embed_param
        self.outputs, self.rows, self.has_bias = param.num_output, param.input_dim, param.bias_term
        if self.outputs < 1 or self.rows < 1:
            raise LayerError(f"`num_output: {self.outputs}` and `input_dim: {self.rows}`; expected both, at least 1")
        check_filler(param.weight_filler)
        check_filler(param.bias_filler)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """One axis more."""
        return [(*bottoms[0], self.outputs)]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The rows and, unless ``bias_term: false``, the bias."""
        param = self.message.embed_param
        specs = [BlobSpec("weight", (self.rows, self.outputs), param.weight_filler)]
        return specs + ([BlobSpec("bias", (self.outputs,), param.bias_filler)] if self.has_bias else [])

    def may_force_backward(self, bottom: int) -> bool:
        """Indices have no gradient."""
        return False

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Look up."""
        index = bottoms[0].detach().to(torch.int64)
        if may_look_at_values() and index.numel():
            low, high = (int(v) for v in torch.aminmax(index))
            if low < 0 or high >= self.rows:
                raise LayerError(f"indices from {low} to {high}; expected 0 to {self.rows - 1}, below `input_dim`")
        rows = F.embedding(index, self.weight)
        return rows + self.bias if self.has_bias else rows
