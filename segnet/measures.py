"""The paper's measures of a segmentation: G, C and mIoU, from one confusion matrix over all images."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch

from prototxt.errors import CaffeError
from segnet.labels import strange_labels

Labels = np.ndarray | torch.Tensor

#: How classes without pixels count; see ``Confusion.measures``.
CONVENTIONS = ("tutorial", "usual")


class Measures(NamedTuple):
    """Shares between 0 and 1."""

    global_accuracy: float
    """G: of all pixels that are not void, those with the right class."""
    class_accuracy: float
    """C: the mean of the classes' accuracies."""
    mean_iou: float
    """mIoU: the mean of the classes' intersections over unions."""
    accuracies: np.ndarray
    """(K,) of each class's pixels, those with the right class; NaN where it has none."""
    ious: np.ndarray
    """(K,) intersection over union of each class; NaN where it does not occur."""


class Confusion:
    """Which class was taken for which, summed over images.

    Args:
        classes: their number K.
        void: labels that do not count; by default K, the one after the last class. One of the classes may be among
            them (SUN's 0): it is then left out of all means.
    """

    def __init__(self, classes: int, void: Collection[int] | None = None) -> None:
        self.classes = classes
        self.void = frozenset([classes] if void is None else void)
        self.matrix = np.zeros((classes, classes), np.int64)
        """(K, K) pixels: rows are the truth, columns the prediction."""
        self.unnamed = np.zeros(classes, np.int64)
        """(K,) pixels of each class for which the prediction is no class at all, or a void one."""

    def add(self, truth: Labels, prediction: Labels) -> None:
        """Count one image or more: two arrays of one shape, with labels of any integer or float type.

        Raises:
            CaffeError: the shapes differ, or the truth holds labels that are neither a class nor void.
        """
        if tuple(truth.shape) != tuple(prediction.shape):
            raise CaffeError(
                f"labels of the shape {tuple(truth.shape)} and predictions of the shape {tuple(prediction.shape)}; "
                "expected one shape"
            )
        truth, prediction = _flat(truth), _flat(prediction)
        counted = self._named(truth)
        self._check(truth[~counted])
        truth, prediction = truth[counted], prediction[counted]
        columns = self.classes + 1
        prediction = torch.where(self._named(prediction), prediction, self.classes)
        pairs = torch.bincount(truth * columns + prediction, minlength=self.classes * columns)
        found = pairs.view(self.classes, columns).cpu().numpy()
        self.matrix += found[:, :-1]
        self.unnamed += found[:, -1]

    def measures(self, convention: str = "tutorial") -> Measures:
        """The measures of all that was counted.

        Args:
            convention: "tutorial" is that of compute_test_results.m: a class without pixels in the truth counts as 0
                in C and mIoU, and pixels for which no class was predicted count in G alone. "usual" leaves a class out
                of C where the truth has none of it, and out of mIoU where the prediction has none of it either; a
                pixel without predicted class is one that its own class has missed.

        Raises:
            CaffeError: an unknown convention.
        """
        if convention not in CONVENTIONS:
            raise CaffeError(f"convention {convention!r}; expected one of {', '.join(CONVENTIONS)}")
        right = np.diag(self.matrix).astype(float)
        total = self.matrix.sum() + self.unnamed.sum()
        truth, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        if convention == "usual":
            truth = truth + self.unnamed
        judged = [label for label in range(self.classes) if label not in self.void]
        with np.errstate(invalid="ignore"):
            accuracies = right / truth
            ious = right / (truth + predicted - right)
            global_accuracy = float(right.sum() / total)
        if convention == "tutorial":
            ious[truth == 0] = np.nan
        means = [_mean(values[judged], convention == "usual") for values in (accuracies, ious)]
        return Measures(global_accuracy, *means, accuracies, ious)

    def _named(self, labels: torch.Tensor) -> torch.Tensor:
        """Where labels are classes that count."""
        named = (labels >= 0) & (labels < self.classes)
        for value in self.void:
            named &= labels != value
        return named

    def _check(self, uncounted: torch.Tensor) -> None:
        values, counts = (found.tolist() for found in uncounted.unique(return_counts=True))
        problem = strange_labels(zip(values, counts, strict=True), self.classes, self.void)
        if problem:
            raise CaffeError(problem)


def _flat(labels: Labels) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(labels) if isinstance(labels, np.ndarray) else labels).flatten().long()


def _mean(values: np.ndarray, leave_out: bool) -> float:
    """The mean with NaN as 0, or without it; NaN of nothing."""
    values = values[~np.isnan(values)] if leave_out else np.nan_to_num(values)
    return float(values.mean()) if values.size else float("nan")
