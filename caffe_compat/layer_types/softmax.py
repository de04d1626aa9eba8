"""Softmax and the loss on it."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LabelError, LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import LossParameter

_LOWEST = math.log(torch.finfo(torch.float32).tiny)  # Caffe takes no logarithm of less than FLT_MIN


@layer("Softmax")
class Softmax(TorchLayer):
    """exp(x) / sum exp(x) along ``axis``; the top has the bottom's shape."""

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape."""
        self.axis = canonical_axis(self.message.softmax_param.axis, len(bottoms[0]))
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        return bottoms[0].softmax(self.axis)


class _NegativeLogLikelihood(torch.autograd.Function):
    """-sum w log p[label], and log p. The gradient is w (p - onehot): Caffe does not differentiate its clamp on p."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        scores: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        counted: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_prob = scores.log_softmax(1)
        losses = -log_prob.gather(1, labels).clamp_min(_LOWEST)
        factor = None if weights is None else weights[labels]
        if counted is not None:
            factor = counted.to(scores.dtype) if factor is None else factor * counted
        if factor is not None:
            losses = losses * factor
        ctx.save_for_backward(log_prob, labels, *(() if factor is None else (factor,)))
        ctx.mark_non_differentiable(log_prob)
        return losses.sum(), log_prob

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor, _: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        log_prob, labels, *factor = ctx.saved_tensors
        diff = log_prob.exp()
        diff.scatter_add_(1, labels, diff.new_full((), -1).expand_as(labels))
        return diff.mul_(factor[0] * gradient if factor else gradient), None, None, None


def check_labels(labels: torch.Tensor, classes: int, ignored: int | None) -> None:
    """Raise LabelError for labels outside 0 .. classes - 1 that are not the ignored one. labels (N, ...)."""
    wrong = (labels < 0) | (labels >= classes)
    if ignored is not None:
        wrong &= labels != ignored
    if not bool(wrong.any()):
        return
    found: dict[int, dict[int, int]] = {}
    for item in range(labels.shape[0]):
        values, counts = labels[item][wrong[item]].unique(return_counts=True)
        if values.numel():
            found[item] = dict(zip(values.tolist(), counts.tolist(), strict=True))
    raise LabelError(found, classes)


@layer("SoftmaxWithLoss")
class SoftmaxWithLoss(TorchLayer):
    """The cross-entropy of a softmax, with an ignored label and weights per class.

    bottoms: scores (N, K, H, W), labels (N, 1, H, W) or as many values in another shape
    tops:    loss (), and the softmax when a second top is named

    SegNet's fork: sum of w[label] (-log p[label]) over the counted pixels, divided by their *number* (not by the sum
    of the weights), or by N with ``normalize: false``. The weights count only with ``weight_by_label_freqs: true``.
    """

    bottoms = (2, 2)
    tops = (1, 2)
    is_loss = True

    def setup(self) -> None:
        """Read the loss parameters."""
        param = self.message.loss_param
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None
        self.by_pixels = param.normalize or not param.HasField("normalize")
        self.class_weights = list(param.class_weighting) if param.weight_by_label_freqs else []
        if param.weight_by_label_freqs and not self.class_weights:
            raise LayerError("`weight_by_label_freqs: true` without `class_weighting`; expected one for each class")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A scalar, and the softmax."""
        scores, labels = bottoms
        self.axis = canonical_axis(self.message.softmax_param.axis, len(scores))
        classes = scores[self.axis]
        places = math.prod(scores) // classes
        if math.prod(labels) != places or not labels or labels[0] != scores[0]:
            raise LayerError(
                f"scores {tuple(scores)} and labels {tuple(labels)}; expected {places} labels, "
                f"e.g. {(*scores[: self.axis], 1, *scores[self.axis + 1 :])}"
            )
        if self.class_weights and len(self.class_weights) != classes:
            raise LayerError(
                f"{len(self.class_weights)} times `class_weighting` for {classes} classes; expected one each"
            )
        return [(), scores][: max(1, self.top_count)]

    def divisor(self, items: int, places: int, counted: torch.Tensor | int) -> torch.Tensor | int:
        """What the sum is divided by: the counted pixels (NaN comes of none), or the batch size."""
        return counted if self.by_pixels else items

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Compare."""
        shape = bottoms[0].shape
        items, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        scores = bottoms[0].reshape(items, shape[self.axis], inner)
        labels = bottoms[1].detach().to(torch.int64).reshape(items, 1, inner)
        if not torch.compiler.is_compiling():
            check_labels(labels, shape[self.axis], self.ignored)
        counted = None
        if self.ignored is not None:
            counted = labels != self.ignored
            labels = labels.masked_fill(~counted, 0)
        weights = scores.new_tensor(self.class_weights) if self.class_weights else None
        total, log_prob = _NegativeLogLikelihood.apply(scores, labels, weights, counted)
        places = labels.numel()
        loss = total / self.divisor(items, places, places if counted is None else counted.sum())
        return (loss, log_prob.exp().view(shape)) if self.top_count == 2 else loss


@layer("SoftmaxWithLoss", "bvlc", "deeplab")
class SoftmaxWithLossBVLC(SoftmaxWithLoss):
    """The loss without class weights, and with ``normalization`` FULL, VALID, BATCH_SIZE or NONE.

    The divisor is at least 1, so that a batch without any counted pixel has the loss 0.
    """

    def setup(self) -> None:
        """Read the loss parameters."""
        param = self.message.loss_param
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None
        self.class_weights = []
        if param.HasField("normalization") or not param.HasField("normalize"):
            named = param.HasField("normalization")
            self.normalization = param.normalization if named else LossParameter.VALID
        else:
            self.normalization = LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE

    def divisor(self, items: int, places: int, counted: torch.Tensor | int) -> torch.Tensor | int:
        """What ``normalization`` says."""
        chosen = {
            LossParameter.FULL: places,
            LossParameter.VALID: counted,
            LossParameter.BATCH_SIZE: items,
            LossParameter.NONE: 1,
        }[self.normalization]
        return chosen.clamp_min(1) if isinstance(chosen, torch.Tensor) else max(1, chosen)
