"""Accuracy, over all places and per class. The forks differ in ties, shapes and absent classes.

DeconvNet's further ones are here too: EltwiseAccuracy, RedAccuracy, BinaryAccuracy.
"""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.softmax import group_sizes
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import BinaryAccuracyParameter, EltwiseAccuracyParameter, RedAccuracyParameter


@layer("Accuracy")
class Accuracy(TorchLayer):
    """The share of places whose label is among the ``top_k`` scores. Its bottoms get no gradient.

    bottoms: scores (N, K, H, W), labels (N, 1, H, W) or as many values in another shape
    tops:    accuracy (); accuracy of each class (K,)

    Of equal scores the larger class index ranks first. A label outside the classes counts as wrong and belongs to no
    class, as the published train nets rely on (their void label is one past the classes).
    """

    bottoms = (2, 2)
    tops = (1, 2)
    absent_class = 0.0

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.accuracy_param
        self.top_k, self.written_axis = param.top_k, param.axis
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None

    def per_class_shape(self, classes: int) -> Shape:
        """The shape of the second top."""
        return (classes,)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A scalar, and one value for each class."""
        scores, labels = bottoms
        self.axis = canonical_axis(self.written_axis, len(scores))
        classes = scores[self.axis]
        places = math.prod(scores) // classes
        if math.prod(labels) != places:
            raise LayerError(f"scores {tuple(scores)} and labels {tuple(labels)}; expected {places} labels")
        if not 1 <= self.top_k <= classes:
            raise LayerError(f"`top_k: {self.top_k}`; expected 1 to {classes}, the number of classes")
        self.scalar = self.context.scalar
        return [self.scalar, self.per_class_shape(classes)][: self.top_count]

    def ahead(self, scores: torch.Tensor, labels: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """How many classes rank before the label: scores (outer, K, inner), labels and own scores (outer, 1, inner)."""
        index = torch.arange(scores.shape[1], device=scores.device)[:, None]
        return ((scores > own) | ((scores == own) & (index > labels))).sum(1, keepdim=True)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Count."""
        shape = bottoms[0].shape
        outer, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        scores = bottoms[0].detach().reshape(outer, shape[self.axis], inner)
        labels = bottoms[1].detach().to(torch.int64).reshape(outer, 1, inner)
        counted = torch.ones_like(labels, dtype=torch.bool) if self.ignored is None else labels != self.ignored
        known = counted & (labels >= 0) & (labels < shape[self.axis])
        safe = labels.masked_fill(~known, 0)
        right = known & (self.ahead(scores, safe, scores.gather(1, safe)) < self.top_k)
        accuracy = self.share(right.sum(), counted.sum()).to(scores.dtype).view(self.scalar)
        if self.top_count == 1:
            return accuracy
        classes = shape[self.axis]
        of_class = torch.bincount(labels[known], minlength=classes)
        right_of_class = torch.bincount(labels[right], minlength=classes)
        per_class = (right_of_class / of_class).masked_fill(of_class == 0, self.absent_class)
        return accuracy, per_class.to(scores.dtype).view(self.per_class_shape(classes))

    def share(self, right: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Right by counted; NaN when nothing is counted."""
        return right / counted


@layer("Accuracy", "segnet")
class AccuracySegNet(Accuracy):
    """SegNet's fork: per-class accuracy (K, 1, 1, 1), and 1 for a class that does not occur."""

    absent_class = 1.0

    def per_class_shape(self, classes: int) -> Shape:
        """Four axes."""
        return (classes, 1, 1, 1)


@layer("Accuracy", "bvlc")
class AccuracyBVLC(Accuracy):
    """BVLC 1.0: a tie with any other class ranks before the label; nothing counted gives 0."""

    def ahead(self, scores: torch.Tensor, labels: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """All other classes with at least the label's score."""
        return (scores >= own).sum(1, keepdim=True) - 1

    def share(self, right: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Right by counted; 0 when nothing is counted."""
        return right / counted.clamp_min(1)


@layer("EltwiseAccuracy")
class EltwiseAccuracy(Accuracy):
    """DeconvNet's accuracy over all pixels.

    bottoms: scores (N, K, H, W), labels (N, 1, H, W); top: accuracy (1, 1, 1, 1)
    """

    tops = (1, 1)

    def setup(self) -> None:
        """Read the parameters."""
        self.read(self.message.eltwise_accuracy_param)

    def read(self, param: EltwiseAccuracyParameter | RedAccuracyParameter) -> None:
        """Take the parameters that both of DeconvNet's accuracies have."""
        self.top_k, self.written_axis = param.top_k, 1
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None


@layer("RedAccuracy")
class RedAccuracy(EltwiseAccuracy):
    """The accuracy of classes with several channels each (see RedSoftmaxWithLoss): of their summed probabilities.

    bottoms: scores (N, C, H, W), labels (N, 1, H, W); top: accuracy (1, 1, 1, 1)
    """

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.red_accuracy_param
        self.read(param)
        self.class_num = param.class_num if param.HasField("class_num") else None

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value."""
        scores, labels = bottoms
        self.sizes = group_sizes(scores, self.class_num)
        return super().top_shapes((scores[0], len(self.sizes), *scores[2:]), labels)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Count."""
        groups = bottoms[0].detach().softmax(1).split(self.sizes, 1)
        return super().forward(torch.stack([group.sum(1) for group in groups], 1), bottoms[1])


@layer("BinaryAccuracy")
class BinaryAccuracy(TorchLayer):
    """How well the signs of the scores agree with labels 0 and 1: accuracy, precision, recall or the F-measure.

    bottoms: scores, labels of the same shape; top: (1, 1, 1, 1). Other labels are not counted; 0 by 0 is NaN (Caffe).
    """

    bottoms = (2, 2)

    def setup(self) -> None:
        """Read the measure."""
        mode = self.message.binary_accuracy_param.accuracy_mode
        self.mode = BinaryAccuracyParameter.AccuracyMode.Name(mode)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value."""
        scores, labels = bottoms
        if tuple(scores) != tuple(labels):
            raise LayerError(f"scores {tuple(scores)} and labels {tuple(labels)}; expected the same shape")
        self.scalar = self.context.scalar
        return [self.scalar]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Count."""
        found, labels = bottoms[0].detach() > 0, bottoms[1].detach().to(torch.int64)
        true, false = labels == 1, labels == 0
        hits, misses = (found & true).sum(), (~found & true).sum()
        alarms, passed = (found & false).sum(), (~found & false).sum()
        precision, recall = hits / (hits + alarms), hits / (hits + misses)
        value = {
            "Accuracy": (hits + passed) / (hits + passed + misses + alarms),
            "Precision": precision,
            "Recall": recall,
            "F_measure": 2 * precision * recall / (precision + recall),
        }[self.mode]
        return value.to(bottoms[0].dtype).view(self.scalar)
