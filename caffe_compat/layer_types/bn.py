"""BN: the batch normalisation of the SegNet fork (paper, section 3). It is not BVLC's BatchNorm."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, TorchLayer, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes
from prototxt.caffe_pb2 import BNParameter

_EPSILON = 1e-9  # hard-wired in Caffe's BN


class _Normalise(torch.autograd.Function):
    """Batch normalisation in Caffe's order of operations, which torch's own folds into one multiplication.

    Where a mean is large beside its deviation that order decides the last bits, and near-ties in pooling hang on them.
    x (N, C, ...), scale and shift with C values, or None for neither; gives y, and the mean and the biased variance
    (C,) of each channel. epsilon is added to the variance, or to the deviation where it is ``outside`` the root.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        scale: torch.Tensor | None,
        shift: torch.Tensor | None,
        epsilon: float,
        overwrite: bool,
        outside: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalise, scale and shift."""
        along = (1, -1, *(1,) * (x.dim() - 2))
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes)
        work = x - mean.view(along)
        # This takes a third of the time of var_mean and half that of torch's own batch_norm, as long as no second
        # blob is allocated: new memory costs more than to subtract again.
        variance = work.square_().mean(axes)
        y = torch.sub(x, mean.view(along), out=x if overwrite else work)
        deviation = variance.sqrt() + epsilon if outside else (variance + epsilon).sqrt()
        ctx.epsilon = epsilon
        ctx.save_for_backward(x, scale, mean, deviation)
        ctx.mark_non_differentiable(mean, variance)
        y.div_(deviation.view(along))
        if scale is not None:
            y.mul_(scale.view(along)).add_(shift.view(along))  # addcmul takes three times as long
        return y, mean, variance

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """Through the statistics too."""
        x, scale, mean, deviation = ctx.saved_tensors
        learnt = scale is not None
        dx, dscale, dshift = torch.ops.aten.native_batch_norm_backward(
            gradient,
            x,
            scale.flatten() if learnt else None,
            None,
            None,
            mean,
            deviation.reciprocal(),
            True,
            ctx.epsilon,
            [True, learnt, learnt],
        )
        return dx, *((dscale.view_as(scale), dshift.view_as(scale)) if learnt else (None, None)), None, None, None


def normalise(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    epsilon: float,
    overwrite: bool = False,
    outside: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch normalisation as above; into x itself with ``overwrite``.

    A tracer gets the same steps as operations of their own, which autograd can follow in the graph that it makes.
    """
    if may_look_at_values():
        return _Normalise.apply(x, scale, shift, epsilon, overwrite, outside)
    along = (1, -1, *(1,) * (x.dim() - 2))
    axes = [axis for axis in range(x.dim()) if axis != 1]
    mean = x.mean(axes)
    centred = x - mean.view(along)
    variance = centred.square().mean(axes)
    deviation = variance.sqrt() + epsilon if outside else (variance + epsilon).sqrt()
    y = centred / deviation.view(along)
    if scale is not None:
        y = y * scale.view(along) + shift.view(along)
    return y, mean.detach(), variance.detach()


def _is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels lie innermost, and cannot as well be said to lie as usual."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


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
        if self.affine_only and self.top_count != 1:
            raise LayerError(f"{self.top_count} tops with `bn_mode: INFERENCE`; expected 1 (it has no statistics)")
        check_filler(param.scale_filler)
        check_filler(param.shift_filler)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The normalised bottom and, when asked for, its statistics."""
        check_axes(bottoms[0], 4)
        scale = getattr(self, "scale", None)
        if scale is not None and scale.numel() != bottoms[0][1]:
            raise LayerError(f"the bottom has {bottoms[0][1]} channels, but the weights were made for {scale.numel()}")
        statistics = (1, bottoms[0][1], 1, 1)
        return [bottoms[0], statistics, statistics][: self.top_count]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """Scale and shift."""
        shape = (1, bottoms[0][1], 1, 1)
        param = self.message.bn_param
        return [BlobSpec("scale", shape, param.scale_filler), BlobSpec("shift", shape, param.shift_filler)]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Normalise, then scale and shift."""
        (x,) = bottoms
        if not self.affine_only and self.top_count == 1 and (x.dtype.itemsize < 4 or _is_channels_last(x)):
            # torch's own keeps half floats half, and goes through channels-last planes in half the time
            return F.batch_norm(x, None, None, self.scale.flatten(), self.shift.flatten(), True, 0.0, _EPSILON)
        if not self.affine_only:
            y, mean, variance = normalise(x, self.scale, self.shift, _EPSILON, self.may_overwrite())
            return (y, mean.view_as(self.scale), variance.view_as(self.scale))[: self.top_count]
        if self.may_overwrite():
            return x.mul_(self.scale).add_(self.shift)
        return (x * self.scale).add_(self.shift)

    def overwritten_diffs(
        self, content: torch.Tensor, top_diff: torch.Tensor, diffs: list[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """INFERENCE multiplies the gradient with the bottom, which in place already holds later values."""
        if not self.affine_only:
            return diffs  # LEARN keeps its normalised input apart
        return [(top_diff * content).sum(dim=(0, 2, 3), keepdim=True), diffs[1]]
