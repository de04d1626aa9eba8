"""DomainTransform: smoothing that stops at edges (DeepLab)."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes


class _Weight(torch.autograd.Function):
    """exp(a + b g) within bounds. The gradient is b times the value, also where it was cut off (Caffe)."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, edges: torch.Tensor, a: float, b: float, least: float
    ) -> torch.Tensor:
        weight = (a + b * edges).exp_().clamp_min_(least).clamp_max_(1)
        ctx.slope = b
        ctx.save_for_backward(weight)
        return weight

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return ctx.slope * weight * gradient, None, None, None


def _sweep(y: list[torch.Tensor], weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """There and back along lists of columns: each column moves towards the one before it.

    Between two columns the weight of the later one holds, in both directions.
    """
    for i in range(1, len(y)):
        y[i] = y[i] + weights[i] * (y[i - 1] - y[i])
    for i in range(len(y) - 2, -1, -1):
        y[i] = y[i] + weights[i + 1] * (y[i + 1] - y[i])
    return y


@layer("DomainTransform")
class DomainTransform(TorchLayer):
    """Recursive smoothing along rows and columns, weaker where the edge map is larger.

    bottoms: scores (N, C, H, W); edges (N, 1, H, W); sizes (N, 1, 1, 2), the height and width that count
    top:     y (N, C, H, W), the scores unchanged beyond the size that counts

    In round i of ``num_iter`` the weight is exp(-sqrt(2) / s_i (1 + g spatial_sigma / range_sigma)), at least
    ``min_weight`` and at most 1, with s_i = spatial_sigma sqrt(3) 2^(n - i - 1) / sqrt(4^n - 1).
    """

    bottoms = (3, 3)

    def setup(self) -> None:
        """Read the deviations."""
        param = self.message.domain_transform_param
        spatial, across, rounds = param.spatial_sigma, param.range_sigma, param.num_iter
        if min(spatial, across) <= 0 or rounds < 1 or param.min_weight < 0:
            raise LayerError(
                f"spatial_sigma {spatial:g}, range_sigma {across:g}, num_iter {rounds}, min_weight "
                f"{param.min_weight:g}; expected deviations above 0, at least one round and no negative weight"
            )
        sigmas = [spatial * math.sqrt(3) * 2 ** (rounds - i - 1) / math.sqrt(4**rounds - 1) for i in range(rounds)]
        self.factors = [-math.sqrt(2) / sigma for sigma in sigmas]
        self.ratio, self.least = spatial / across, param.min_weight

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """That of the scores."""
        scores, edges, sizes = (tuple(shape) for shape in bottoms)
        check_axes(scores, 4, "scores")
        if edges != (scores[0], 1, *scores[2:]) or math.prod(sizes) != 2 * scores[0]:
            raise LayerError(
                f"bottoms {scores}, {edges}, {sizes}; expected edges {(scores[0], 1, *scores[2:])} and sizes "
                f"{(scores[0], 1, 1, 2)}, height and width"
            )
        return [scores]

    def may_force_backward(self, bottom: int) -> bool:
        """Sizes have no gradient."""
        return bottom < 2

    def weight(self, edges: torch.Tensor, factor: float) -> torch.Tensor:
        """The weight of each pixel in a round."""
        return _Weight.apply(edges, factor, factor * self.ratio, self.least)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Smooth each item by itself. Raises LayerError for a size beyond the plane."""
        scores, edges, sizes = bottoms
        sizes = sizes.detach().reshape(-1, 2).to(torch.int64).tolist()
        items = []
        for item, edge, (height, width) in zip(scores, edges[:, 0], sizes, strict=True):
            if not (0 < height <= item.shape[1] and 0 < width <= item.shape[2]):
                raise LayerError(
                    f"size {height}x{width}; expected 1x1 to {item.shape[1]}x{item.shape[2]}, the scores' plane"
                )
            smooth = self._smooth(item[:, :height, :width], edge[:height, :width])
            rows = torch.cat([smooth, item[:, :height, width:]], 2)
            items.append(torch.cat([rows, item[:, height:]], 1))
        return torch.stack(items)

    def _smooth(self, y: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """y (C, h, w), edges (h, w)."""
        for factor in self.factors:
            weight = self.weight(edges, factor)
            for axis in (2, 1):  # along the rows, then along the columns
                y = torch.stack(_sweep(list(y.unbind(axis)), list(weight.unbind(axis - 1))), axis)
        return y


@layer("DomainTransformForwardOnly")
class DomainTransformForwardOnly(DomainTransform):
    """Without gradient and without bounds on the weights, ``min_weight`` included (Caffe)."""

    def weight(self, edges: torch.Tensor, factor: float) -> torch.Tensor:
        """The weight of each pixel in a round."""
        return (factor * (1 + self.ratio * edges)).exp()

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Smooth."""
        with torch.no_grad():
            return super().forward(*bottoms)
