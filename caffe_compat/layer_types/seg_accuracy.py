"""SegAccuracy: pixel accuracy, mean recall and mean intersection over union (DeepLab)."""

from __future__ import annotations

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.argmax import largest
from caffe_compat.layer_types.softmax import check_labels
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes


@layer("SegAccuracy")
class SegAccuracy(TorchLayer):
    """Measures of a segmentation, from a confusion matrix. Its bottoms get no gradient.

    bottoms: scores (N, K, H, W), labels (N, 1, H, W)
    top:     (1, 1, 1, 3): the share of right pixels; recall, the mean over classes that occur in the labels;
             intersection over union, the mean over all classes, 1 for one neither labelled nor predicted

    Of equal scores the larger class index counts. With ``reset: false`` the matrix gathers all passes. ``metric`` says
    nothing (Caffe never reads it).
    """

    bottoms = (2, 2)

    def setup(self) -> None:
        """Read the ignored labels."""
        param = self.message.seg_accuracy_param
        self.ignored, self.gathers = list(param.ignore_label), not param.reset
        self.gathered: torch.Tensor | None = None

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Three values."""
        scores, labels = bottoms
        check_axes(scores, 4, "scores")
        if tuple(labels) != (scores[0], 1, *scores[2:]):
            raise LayerError(
                f"scores {tuple(scores)} and labels {tuple(labels)}; expected labels {(scores[0], 1, *scores[2:])}"
            )
        return [(1, 1, 1, 3)]

    def confusion(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How many pixels of each class (row) were taken for each class (column), (K, K). Raises LabelError."""
        classes = scores.shape[1]
        labels = labels.to(torch.int64)
        counted = torch.ones_like(labels, dtype=torch.bool)
        for label in self.ignored:
            counted &= labels != label
        check_labels(labels.masked_fill(~counted, 0), classes, ignored_by="seg_accuracy_param")
        predicted = largest(scores, 1, 1)[1]
        pairs = (labels * classes + predicted)[counted]
        return torch.bincount(pairs, minlength=classes**2).view(classes, classes)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Count."""
        scores, labels = (bottom.detach() for bottom in bottoms)
        matrix = self.confusion(scores, labels)
        if self.gathers:
            if self.gathered is not None:
                matrix = matrix + self.gathered.to(matrix.device)
            self.gathered = matrix
        matrix = matrix.double()
        right, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        union = labelled + predicted - right
        accuracy = right.sum() / matrix.sum().clamp_min(1)
        recall = (right / labelled.clamp_min(1)).sum() / (labelled > 0).sum().clamp_min(1)
        overlap = torch.where(union > 0, right / union.clamp_min(1), 1).mean()
        return torch.stack([accuracy, recall, overlap]).to(scores.dtype).view(1, 1, 1, 3)
