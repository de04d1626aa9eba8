"""Losses beside SoftmaxWithLoss: Euclidean, hinge, multinomial logistic, sigmoid cross-entropy, contrastive."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.softmax import check_labels, chosen_normalization, normalizer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import HingeLossParameter, LossParameter

SMALLEST = 1e-20  # of smaller probabilities Caffe takes no logarithm


class _AtLeast(torch.autograd.Function):
    """A clamp that the gradient does not see."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, least: float) -> torch.Tensor:
        return x.clamp_min(least)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def at_least(x: torch.Tensor, least: float) -> torch.Tensor:
    """max(x, least), whose gradient is 1 everywhere: Caffe takes gradients at the clamped value."""
    return _AtLeast.apply(x, least)


class PairLoss(TorchLayer):
    """A loss between two blobs, value by value.

    bottoms: x (N, ...); another of as many items and values; top: loss ()
    """

    bottoms = (2, 2)
    is_loss = True

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value."""
        one, other = bottoms
        if not one or not other or one[0] != other[0] or math.prod(one) != math.prod(other):
            raise LayerError(f"bottoms {tuple(one)} and {tuple(other)}; expected as many items and as many values")
        self.scalar = self.context.scalar
        return [self.scalar]


class LabelLoss(TorchLayer):
    """A loss of each item's values against its label. The labels get no gradient.

    bottoms: x (N, ...), flattened to K values for each item; labels (N,), or N values in another shape
    top:     loss ()
    """

    bottoms = (2, 2)
    is_loss = True

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value."""
        x, labels = bottoms[:2]
        if not x or not labels or labels[0] != x[0] or math.prod(labels) != x[0]:
            raise LayerError(f"{tuple(x)} and labels {tuple(labels)}; expected one label for each item")
        self.classes = math.prod(x[1:])
        self.scalar = self.context.scalar
        return [self.scalar]

    def label_rule(self) -> tuple[int, int | None] | None:
        """The values of an item; no label is left out."""
        return self.classes, None

    def may_force_backward(self, bottom: int) -> bool:
        """Only the values learn."""
        return bottom == 0

    def by_item(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The values (N, K) and the labels as indices (N, 1). Raises LabelError."""
        x, labels = x.flatten(1), labels.detach().to(torch.int64).view(-1, 1)
        check_labels(labels, x.shape[1], ignored_by="")
        return x, labels


@layer("EuclideanLoss")
class EuclideanLoss(PairLoss):
    """Half the sum of squared differences, divided by N. Both bottoms learn."""

    def may_force_backward(self, bottom: int) -> bool:
        """Both."""
        return True

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        one, other = bottoms
        squares = F.mse_loss(one, other.view(one.shape), reduction="sum")
        return (squares / (2 * one.shape[0])).view(self.scalar)


@layer("HingeLoss")
class HingeLoss(LabelLoss):
    """One class against all others: the sum of max(0, 1 - x) at the label and of max(0, 1 + x) elsewhere, over N.

    With ``norm: L2`` each of them squared.
    """

    def setup(self) -> None:
        """Read the norm."""
        self.squared = self.message.hinge_loss_param.norm == HingeLossParameter.L2

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        x, labels = self.by_item(*bottoms)
        sign = torch.ones_like(x).scatter_(1, labels, -1)
        excess = (1 + sign * x).relu()
        return ((excess.square() if self.squared else excess).sum() / x.shape[0]).view(self.scalar)


@layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LabelLoss):
    """The mean of -log p[label] over the items; x are probabilities."""

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        probability, labels = self.by_item(*bottoms)
        chosen = at_least(probability.gather(1, labels), SMALLEST)
        return (-chosen.log().sum() / probability.shape[0]).view(self.scalar)


class _CrossEntropy(torch.autograd.Function):
    """-sum of t log s(x) + (1 - t) log(1 - s(x)), s the sigmoid, in a form that is exact for large x of both signs.

    The gradient is s(x) - t. ``counted`` leaves values out.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, target: torch.Tensor, counted: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, target, *(() if counted is None else (counted,)))
        losses = x.clamp_min(0) - x * target + x.abs().neg_().exp_().log1p_()
        return (losses if counted is None else losses.masked_fill_(~counted, 0)).sum()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, target, *counted = ctx.saved_tensors
        diff = x.sigmoid().sub_(target).mul_(gradient)
        return diff.masked_fill_(~counted[0], 0) if counted else diff, None, None


@layer("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(PairLoss):
    """The cross-entropy of sigmoids against targets from 0 to 1, summed and divided by N. The targets get no gradient.

    bottoms: scores (N, ...), targets of as many values; top: loss ()
    """

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        x, target = bottoms[0], bottoms[1].detach().view(bottoms[0].shape)
        return (_CrossEntropy.apply(x, target, None) / x.shape[0]).view(self.scalar)


@layer("SigmoidCrossEntropyLoss", "bvlc", "crf")
class SigmoidCrossEntropyLossBVLC(SigmoidCrossEntropyLoss):
    """Caffe from November 2016 on: with ``ignore_label`` and ``normalization``, BATCH_SIZE by default."""

    def setup(self) -> None:
        """Read the loss parameters."""
        param = self.message.loss_param
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None
        self.normalization = chosen_normalization(param, LossParameter.BATCH_SIZE)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        x, target = bottoms[0], bottoms[1].detach().view(bottoms[0].shape)
        counted = None if self.ignored is None else target.to(torch.int64) != self.ignored
        number = x.numel() if counted is None else counted.sum()
        divisor = normalizer(self.normalization, x.shape[0], x.numel(), number)
        return (_CrossEntropy.apply(x, target, counted) / divisor).view(self.scalar)


class _Contrast(torch.autograd.Function):
    """Sum of d² for similar pairs, of max(margin - d, 0)² for others (legacy: max(margin - d², 0)); d = |difference|.

    The gradient of the others is divided by d + 1e-4 where it were d, so that it is finite for d = 0 (Caffe).
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        difference: torch.Tensor,
        similar: torch.Tensor,
        margin: float,
        legacy: bool,
    ) -> torch.Tensor:
        squares = difference.square().sum(1, keepdim=True)
        distance = squares.sqrt()
        room = (margin - (squares if legacy else distance)).clamp_min_(0)
        push = -(room > 0).to(room.dtype) if legacy else -room / (distance + 1e-4)
        ctx.save_for_backward(difference, torch.where(similar, 2, 2 * push))
        return torch.where(similar, squares, room if legacy else room.square()).sum()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        difference, factor = ctx.saved_tensors
        return factor * difference * gradient, None, None, None


@layer("ContrastiveLoss")
class ContrastiveLoss(TorchLayer):
    """Draws similar pairs together and pushes others apart up to a margin. Both members of a pair learn.

    bottoms: a and b (N, C); 1 for a similar pair, 0 for another (N,); all may have further axes of size 1
    top:     loss (), divided by 2N
    """

    bottoms = (3, 3)
    is_loss = True

    def setup(self) -> None:
        """Read the margin."""
        param = self.message.contrastive_loss_param
        self.margin, self.legacy = param.margin, param.legacy_version

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value."""
        a, b, similar = (tuple(shape) for shape in bottoms)
        if len(a) < 2 or a[:2] != b[:2] or math.prod(a[2:]) != 1 or math.prod(b[2:]) != 1:
            raise LayerError(f"bottoms {a} and {b}; expected two of the shape (N, C) or (N, C, 1, 1)")
        if math.prod(similar) != a[0]:
            raise LayerError(f"pairs {a} and similarities {similar}; expected one for each pair, {(a[0],)}")
        self.scalar = self.context.scalar
        return [self.scalar]

    def may_force_backward(self, bottom: int) -> bool:
        """The pair."""
        return bottom < 2

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        a, b, similar = bottoms
        similar = similar.detach().to(torch.int64).view(-1, 1) != 0
        total = _Contrast.apply(a.flatten(1) - b.flatten(1), similar, self.margin, self.legacy)
        return (total / (2 * a.shape[0])).view(self.scalar)
