"""Softmax and the loss on it."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LabelError, LayerError
from caffe_compat.layer_base import TorchLayer, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis, check_axes
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


def _log_losses(
    scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, counted: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """-w log p[label] of each place, log p, and w (None where it is 1)."""
    log_prob = scores.log_softmax(1)
    losses = log_prob.gather(1, labels).clamp_min_(_LOWEST).neg_()
    factor = counted
    if weights is not None:
        factor = weights[labels] if counted is None else weights[labels] * counted
    if factor is not None:
        losses.mul_(factor)
    return losses, log_prob, factor


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
        losses, log_prob, factor = _log_losses(scores, labels, weights, counted)
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


def check_labels(labels: torch.Tensor, classes: int, ignored_by: str = "loss_param") -> None:
    """Raise LabelError for labels (N, ...) outside 0 .. classes - 1. Ignored ones have been replaced by 0.

    ``ignored_by`` is the parameter of the layer that names the ignored label; empty where none does. A compiled net
    does not look.
    """
    if not may_look_at_values() or not labels.numel():
        return
    lowest, highest = torch.aminmax(labels)
    if not bool((lowest < 0) | (highest >= classes)):
        return
    wrong = (labels < 0) | (labels >= classes)
    found: dict[int, dict[int, int]] = {}
    for item in range(labels.shape[0]):
        values, counts = labels[item][wrong[item]].unique(return_counts=True)
        if values.numel():
            found[item] = dict(zip(values.tolist(), counts.tolist(), strict=True))
    raise LabelError(found, classes, ignored_by)


def normalizer(mode: int, items: int, places: int, counted: torch.Tensor | int) -> torch.Tensor | int:
    """What ``normalization`` divides a loss by, at least 1: all places, those counted, the batch size, or nothing."""
    chosen = {
        LossParameter.FULL: places,
        LossParameter.VALID: counted,
        LossParameter.BATCH_SIZE: items,
        LossParameter.NONE: 1,
    }[mode]
    return chosen.clamp_min(1) if isinstance(chosen, torch.Tensor) else max(1, chosen)


def chosen_normalization(param: LossParameter, default: int) -> int:
    """The mode that is written; the older ``normalize`` counts only where ``normalization`` is not given."""
    if param.HasField("normalization"):
        return param.normalization
    if param.HasField("normalize"):
        return LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
    return default


@layer("SoftmaxWithLoss")
class SoftmaxWithLoss(TorchLayer):
    """The cross-entropy of a softmax, with an ignored label and weights per class.

    bottoms: scores (N, K, H, W), labels (N, 1, H, W) or as many values in another shape
    tops:    loss (), and the softmax when a second top is named; the labels get no gradient

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
        self.classes = classes = scores[self.axis]
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
        self.scalar = self.context.scalar
        return [self.scalar, scores][: max(1, self.top_count)]

    def label_rule(self) -> tuple[int, int | None] | None:
        """The channels, and ``ignore_label``."""
        return self.classes, self.ignored

    def divisor(self, items: int, places: int, counted: torch.Tensor | int) -> torch.Tensor | int:
        """What the sum is divided by: the counted pixels (NaN comes of none), or the batch size."""
        return counted if self.by_pixels else items

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Compare."""
        shape = bottoms[0].shape
        items, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        scores = bottoms[0].reshape(items, shape[self.axis], inner)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # losses of half floats are not added up
        labels = bottoms[1].detach().to(torch.int64).reshape(items, 1, inner)
        counted = None
        if self.ignored is not None:
            counted = labels != self.ignored
            labels = torch.where(counted, labels, 0)
        check_labels(labels, shape[self.axis])
        weights = scores.new_tensor(self.class_weights) if self.class_weights else None
        if torch.jit.is_tracing():  # a Function of one's own cannot be saved in TorchScript
            losses, log_prob, _ = _log_losses(scores, labels, weights, counted)
            total = losses.sum()
        else:
            total, log_prob = _NegativeLogLikelihood.apply(scores, labels, weights, counted)
        places = labels.numel()
        number = places if counted is None else counted.count_nonzero()
        loss = (total / self.divisor(items, places, number)).view(self.scalar)
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
        self.normalization = chosen_normalization(param, LossParameter.VALID)

    def divisor(self, items: int, places: int, counted: torch.Tensor | int) -> torch.Tensor | int:
        """What ``normalization`` says."""
        return normalizer(self.normalization, items, places, counted)


def group_sizes(scores: Shape, classes: int | None) -> list[int]:
    """How many channels each class has where they share them evenly, in order; one each where no number is given.

    Raises LayerError.
    """
    check_axes(scores, 4, "scores")
    channels = scores[1]
    classes = channels if classes is None else classes
    if not 1 <= classes <= channels:
        raise LayerError(f"`class_num: {classes}` for {channels} channels; expected 1 to {channels}")
    return [(k + 1) * channels // classes - k * channels // classes for k in range(classes)]


@layer("RedSoftmaxWithLoss")
class RedSoftmaxWithLoss(SoftmaxWithLoss):
    """DeconvNet's loss for classes with several channels each: the probability of a class is the sum of theirs.

    bottoms: scores (N, C, H, W), labels (N, 1, H, W) below ``class_num``
    tops:    loss (1, 1, 1, 1), and the softmax over all channels when a second top is named
    """

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value, and the softmax."""
        scores, labels = bottoms
        param = self.message.red_softmax_loss_param
        self.sizes = group_sizes(scores, param.class_num if param.HasField("class_num") else None)
        loss = super().top_shapes((scores[0], len(self.sizes), *scores[2:]), labels)[0]
        return [loss, scores][: max(1, self.top_count)]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Compare. The softmax of the classes' log-sum-exps is the sum of their channels' softmax."""
        scores, labels = bottoms
        classes = torch.stack([group.logsumexp(1) for group in scores.split(self.sizes, 1)], 1)
        if self.top_count == 1:
            return super().forward(classes, labels)
        return super().forward(classes, labels)[0], scores.detach().softmax(1)
