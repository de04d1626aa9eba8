"""ArgMax."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis


def largest(x: torch.Tensor, k: int, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values along an axis and their indices; of equal values the largest index comes first.

    Caffe sorts (value, index) pairs downwards. x (N, K, ...) with axis 1 gives two tensors (N, k, ...).
    """
    flipped = x.flip(axis)
    if k == 1:  # torch promises the first of equal maxima
        values, indices = flipped.max(dim=axis, keepdim=True)
    else:
        values, indices = flipped.sort(dim=axis, descending=True, stable=True)
        values, indices = values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
    return values, x.shape[axis] - 1 - indices


@layer("ArgMax")
class ArgMax(TorchLayer):
    """Where the largest values stand; ties go to the largest index. No backward.

    bottom: x (N, C, H, W)
    top:    with ``axis``: the bottom's shape with ``top_k`` on that axis, indices (or values with ``out_max_val``);
            without: (N, 1, top_k, 1, ...) over each flattened item, (N, 2, top_k, 1, ...) with the values beside
    """

    has_backward = False

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.argmax_param
        self.axis = param.axis if param.HasField("axis") else None
        self.top_k, self.gives_values = param.top_k, param.out_max_val
        if self.top_k < 1:
            raise LayerError("`top_k: 0`; expected at least 1")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """One shape with an axis, another without."""
        (x,) = bottoms
        if self.axis is not None:
            axis = canonical_axis(self.axis, len(x))
            searched = x[axis]
            shape = (*x[:axis], self.top_k, *x[axis + 1 :])
        else:
            searched = math.prod(x[1:])
            trailing = max(3, len(x)) - 3
            shape = (x[0], 2 if self.gives_values else 1, self.top_k, *(1,) * trailing)
        if self.top_k > searched:
            raise LayerError(f"`top_k: {self.top_k}` out of {searched} values; expected at most {searched}")
        return [shape]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Search."""
        (x,) = bottoms
        if self.axis is not None:
            values, indices = largest(x, self.top_k, canonical_axis(self.axis, x.dim()))
            return values if self.gives_values else indices.to(x.dtype)
        values, indices = largest(x.flatten(1), self.top_k, 1)
        rows = [indices.to(x.dtype), values] if self.gives_values else [indices.to(x.dtype)]
        return torch.stack(rows, dim=1).reshape(self.top_shapes(tuple(x.shape))[0])
