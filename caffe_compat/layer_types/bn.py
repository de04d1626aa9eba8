"""BN: the batch normalisation of the SegNet fork (paper, section 3). It is not BVLC's BatchNorm."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, Shape, TorchLayer, check_axes
from caffe_compat.registry import layer
from prototxt.caffe_pb2 import BNParameter

_EPSILON = 1e-9  # hard-wired in Caffe's BN


@layer("BN")
class BN(TorchLayer):
    """Scale and shift per channel, with the statistics of the batch (LEARN) or without any (INFERENCE).

    The phase plays no part: LEARN normalises with the batch also in TEST, INFERENCE is affine also in TRAIN. No
    running statistics exist; a separate step puts them into scale and shift.

    bottom: x (N, C, H, W)
    tops:   y (N, C, H, W); with LEARN also the batch's mean and biased variance (1, C, 1, 1), without gradients
    blobs:  scale, shift, each (1, C, 1, 1)
    """

    tops = (1, 3)
    overwrites_param_diffs = True
    ignores_propagate_down = True

    def setup(self) -> None:
        """Read the mode."""
        param = self.message.bn_param
        self.affine_only = param.bn_mode == BNParameter.INFERENCE
        if self.affine_only and len(self.message.top) != 1:
            raise LayerError(
                f"{len(self.message.top)} tops with `bn_mode: INFERENCE`; expected 1 (it has no statistics)"
            )
        check_filler(param.scale_filler)
        check_filler(param.shift_filler)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The normalised bottom and, when asked for, its statistics."""
        check_axes(bottoms[0], 4)
        scale = getattr(self, "scale", None)
        if scale is not None and scale.numel() != bottoms[0][1]:
            raise LayerError(f"the bottom has {bottoms[0][1]} channels, but the weights were made for {scale.numel()}")
        statistics = (1, bottoms[0][1], 1, 1)
        return [bottoms[0], statistics, statistics][: len(self.message.top)]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """Scale and shift."""
        shape = (1, bottoms[0][1], 1, 1)
        param = self.message.bn_param
        return [BlobSpec("scale", shape, param.scale_filler), BlobSpec("shift", shape, param.shift_filler)]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Normalise, then scale and shift."""
        (x,) = bottoms
        if self.affine_only:
            return (
                x.mul_(self.scale).add_(self.shift)
                if self.may_overwrite()
                else torch.addcmul(self.shift, x, self.scale)
            )
        y = F.batch_norm(x, None, None, self.scale.flatten(), self.shift.flatten(), training=True, eps=_EPSILON)
        if len(self.message.top) == 1:
            return y
        variance, mean = torch.var_mean(x.detach(), dim=(0, 2, 3), correction=0, keepdim=True)
        return (y, mean, variance)[: len(self.message.top)]

    def overwritten_diffs(
        self, content: torch.Tensor, top_diff: torch.Tensor, diffs: list[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """INFERENCE multiplies the gradient with the bottom, which in place already holds later values."""
        if not self.affine_only:
            return diffs  # LEARN keeps its normalised input apart
        return [(top_diff * content).sum(dim=(0, 2, 3), keepdim=True), diffs[1]]
