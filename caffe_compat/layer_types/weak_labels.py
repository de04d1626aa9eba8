"""DeepLab's layers for weak supervision: which labels an image has, and scores raised for these."""

from __future__ import annotations

import numpy as np
import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.softmax import check_labels
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes
from prototxt.caffe_pb2 import BiasChannelParameter

PADDING = -1  # what UniqueLabel fills its list up with


@layer("UniqueLabel")
class UniqueLabel(TorchLayer):
    """The labels that occur in each item, in ascending order, without the ignored ones and with the forced ones.

    bottom: labels (N, 1, H, W); top: (N, max_labels, 1, 1), filled up with -1
    """

    has_backward = False

    def setup(self) -> None:
        """Read the labels."""
        param = self.message.unique_label_param
        self.room, self.ignored, self.forced = param.max_labels, list(param.ignore_label), list(param.force_label)
        if self.room <= len(set(self.forced)):
            raise LayerError(f"`max_labels: {self.room}` with {len(set(self.forced))} forced labels; expected more")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A list for each item."""
        (labels,) = bottoms
        check_axes(labels, 4, "labels")
        if labels[1] != 1:
            raise LayerError(f"labels {tuple(labels)}; expected one channel, (N, 1, H, W)")
        return [(labels[0], self.room, 1, 1)]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """List them. Raises LayerError where they are too many."""
        (labels,) = bottoms
        top = torch.full((len(labels), self.room, 1, 1), PADDING, dtype=labels.dtype, device=labels.device)
        ignored = labels.new_tensor(self.ignored)
        for i, item in enumerate(labels.detach()):
            kept = item[~torch.isin(item, ignored)]
            found = torch.cat([kept, labels.new_tensor(self.forced)]).unique()
            if len(found) > self.room:
                raise LayerError(f"item {i} has {len(found)} labels; expected at most `max_labels: {self.room}`")
            top[i, : len(found), 0, 0] = found
        return top


class _Raised(TorchLayer):
    """Scores raised by what labels say.

    bottoms: scores (N, K, H, W); labels, in most cases (N, L, 1, 1) as UniqueLabel lists them; top: scores
    """

    bottoms = (2, 2)

    def labels_shape(self, scores: Shape) -> Shape | None:
        """The shape that the labels must have; None for lists (N, L, 1, 1)."""
        return None

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """That of the scores."""
        scores, labels = (tuple(shape) for shape in bottoms)
        check_axes(scores, 4, "scores")
        check_axes(labels, 4, "labels")
        expected = self.labels_shape(scores)
        if labels != (expected or (scores[0], labels[1], 1, 1)):
            raise LayerError(
                f"scores {scores} and labels {labels}; expected labels {expected or f'({scores[0]}, L, 1, 1)'}"
            )
        return [scores]

    def may_force_backward(self, bottom: int) -> bool:
        """Labels have no gradient."""
        return bottom == 0


@layer("BiasChannel")
class BiasChannel(_Raised):
    """Adds ``fg_bias`` to the scores of an item's labels and ``bg_bias`` to the background's. Gradients pass unchanged.

    With ``label_type: PIXEL`` the labels are (N, 1, H, W) and each pixel's own class is raised there; where
    ``bg_bias`` or ``background_label`` is written, the background is raised at every pixel that counts. With IMAGE
    the background is class 0. Ignored labels and -1 raise nothing.
    """

    def setup(self) -> None:
        """Read the biases."""
        param = self.message.bias_channel_param
        self.background, self.other = param.bg_bias, param.fg_bias
        if min(self.background, self.other) < 0:
            raise LayerError(f"`bg_bias: {self.background:g} fg_bias: {self.other:g}`; expected none below 0")
        self.ignored = [PADDING, *param.ignore_label]
        self.by_pixel = param.label_type == BiasChannelParameter.PIXEL
        self.raises_background = param.HasField("background_label") or param.HasField("bg_bias")
        self.background_label = param.background_label

    def labels_shape(self, scores: Shape) -> Shape | None:
        """A label for each pixel, or lists."""
        return (scores[0], 1, *scores[2:]) if self.by_pixel else None

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """That of the scores."""
        tops = super().top_shapes(*bottoms)
        if not 0 <= self.background_label < bottoms[0][1]:
            raise LayerError(f"`background_label: {self.background_label}` for {bottoms[0][1]} classes")
        return tops

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Add. Raises LabelError."""
        scores, labels = bottoms[0], bottoms[1].detach().to(torch.int64)
        counted = ~torch.isin(labels, labels.new_tensor(self.ignored))
        labels = labels.masked_fill(~counted, 0)
        check_labels(labels, scores.shape[1], ignored_by="bias_channel_param")
        biases = scores.new_zeros(*scores.shape[:2], *labels.shape[2:])
        biases.scatter_add_(1, labels, self._amounts(labels).to(scores.dtype) * counted)
        if self.by_pixel and self.raises_background:
            biases[:, self.background_label] += self.background * counted[:, 0]
        return scores + biases

    def _amounts(self, labels: torch.Tensor) -> torch.Tensor:
        """What each label adds to its own class."""
        if not self.by_pixel:
            return torch.where(labels == 0, self.background, self.other)
        is_background = (labels == self.background_label) & self.raises_background
        return torch.where(is_background, 0.0, self.other)


@layer("AdaptiveBiasChannel")
class AdaptiveBiasChannel(_Raised):
    """Raises the scores of an item's labels until each covers a portion of it. No gradient passes (Caffe).

    For each label in turn (the background, class 0, first, the others shuffled): what it lacks to the highest score,
    at the pixel where ``bg_portion`` or ``fg_portion`` of all lack less, is added everywhere. ``suppress_others`` puts
    classes without a label below those with one. At the end the mean of the highest scores is what it was.
    """

    def setup(self) -> None:
        """Read the portions."""
        param = self.message.adaptive_bias_channel_param
        self.rounds, self.suppresses, self.margin = param.num_iter, param.suppress_others, param.margin_others
        self.background, self.other = param.bg_portion, param.fg_portion
        if self.rounds < 1 or self.margin < 0:
            raise LayerError(
                f"`num_iter: {self.rounds}` and `margin_others: {self.margin:g}`; expected at least 1 and none below 0"
            )
        if not (0 <= self.background <= 1 and 0 <= self.other <= 1):
            raise LayerError(
                f"`bg_portion: {self.background:g}` and `fg_portion: {self.other:g}`; expected numbers from 0 to 1"
            )

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Raise each item by itself. Raises LabelError."""
        scores = bottoms[0].detach().clone(memory_format=torch.contiguous_format)
        labels = bottoms[1].detach().to(torch.int64)
        check_labels(labels.masked_fill(labels == PADDING, 0), scores.shape[1], ignored_by="")
        for item, listed in zip(scores.flatten(2), labels.flatten(1), strict=True):
            present = listed[listed != PADDING].unique()
            if len(present):
                self._raise(item, present)
        return scores

    def _raise(self, scores: torch.Tensor, present: torch.Tensor) -> None:
        """In place: scores (K, pixels), present labels in ascending order."""
        if self.suppresses:
            lowest = scores[present].amin(0)
            absent = torch.ones(len(scores), 1, dtype=torch.bool, device=scores.device)
            absent[present] = False
            scores.copy_(torch.where(absent & (scores > lowest), lowest - self.margin, scores))
        highest = scores[present].amax(0)
        mean = highest.double().mean()
        for _ in range(self.rounds):
            first = int(present[0] == 0)
            order = torch.randperm(len(present) - first, device=present.device) + first
            for label in [*present[:first].tolist(), *present[order].tolist()]:
                lacking = highest - scores[label]
                scores[label] += lacking.kthvalue(self._rank(label, len(lacking)))[0]
                highest = torch.maximum(highest, scores[label])
        scores += mean - highest.double().mean()

    def _rank(self, label: int, pixels: int) -> int:
        """Which of all pixels, in ascending order of what is lacking, decides; Caffe multiplies in float32."""
        portion = self.background if label == 0 else self.other
        return min(int(np.float32(portion) * np.float32(pixels)) + 1, pixels)
