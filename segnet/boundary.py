"""BF, the paper's measure of boundaries: the F1 score of each class's outline, within a tolerance (Csurka et al. 2013).

What is fixed here, following the tutorial's computeBFmeasure.m and the BSDS code that it calls:

* The outline of a class consists of the pixels whose 2×2 block, they themselves being its upper left corner, is partly
  of the class and partly not. At the lower and right edge the block is cut off; the image's frame is no outline.
* The tolerance is 0.75 % of the image's diagonal, the distance being Euclidean: 4.5 pixels at 360×480.
* An outline pixel is right when the other outline has a pixel within the tolerance. The original matches the two
  outlines one to one instead, so that a pixel whose only partners are taken counts as wrong there. Every pair of such
  a matching is within the tolerance: precision and recall, and so BF, are never lower here than there. (For a
  SegNet-Basic trained at 96×128, on CamVid's validation images: 29.1 % here and 26.3 % with a largest matching.)
* Void pixels of the truth do not count. An outline pixel on one is neither right nor wrong; it may still be what
  another one is matched with. The original knows no void pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from prototxt.errors import CaffeError

TOLERANCE = 0.0075


def boundary_f1(
    truth: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    void: Collection[int] | None = None,
    *,
    tolerance: float = TOLERANCE,
    either: bool = False,
) -> np.ndarray:
    """The F1 score of each class's outline in one image.

    Args:
        truth, prediction: labels (H, W).
        classes: their number K.
        void: labels of the truth that do not count; by default K, the one after the last class.
        tolerance: as a share of the image's diagonal.
        either: score every class that has an outline in the truth or in the prediction, as computeBFmeasure.m does;
            by default, as the paper says, those that have one in the truth.

    Returns:
        (K,), NaN for classes that are not scored.

    Raises:
        CaffeError: the shapes are not one (H, W).
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise CaffeError(
            f"labels of the shape {truth.shape} and predictions of the shape {prediction.shape}; expected one (H, W)"
        )
    void = {classes} if void is None else void
    counts = ~np.isin(truth, list(void))
    disk = _disk(tolerance * math.hypot(*truth.shape))
    scores = np.full(classes, np.nan)
    for label in set(range(classes)) - set(void):
        ours, theirs = outline(prediction == label), outline(truth == label)
        precision, recall = _share_near(ours, theirs, counts, disk), _share_near(theirs, ours, counts, disk)
        if not math.isnan(recall) or (either and not math.isnan(precision)):
            precision, recall = np.nan_to_num([precision, recall])
            scores[label] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def mean_boundary_f1(scores: Sequence[np.ndarray] | np.ndarray) -> float:
    """BF: the scores (images, K) averaged for each image, then over the images.

    An image in which no class was scored counts as 0, as in computeBFmeasure.m.
    """
    scores = np.asarray(scores)
    scored = ~np.isnan(scores)
    means = np.nansum(scores, axis=1) / scored.sum(axis=1).clip(1)
    return float(means.mean())


def outline(inside: np.ndarray) -> np.ndarray:
    """The outline of a region, both boolean (H, W): where a 2×2 block from here to the lower right is not uniform."""
    padded = np.pad(inside, ((0, 1), (0, 1)), mode="edge")
    corners = padded[:-1, :-1], padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]
    return np.logical_or.reduce(corners) & ~np.logical_and.reduce(corners)


def _disk(radius: float) -> list[tuple[int, int]]:
    """The steps (rows, columns) that lead no farther than a radius, the shortest first."""
    reach = range(-int(radius), int(radius) + 1)
    steps = [(y, x) for y in reach for x in reach if math.hypot(y, x) <= radius]
    return sorted(steps, key=lambda step: math.hypot(*step))


def _share_near(pixels: np.ndarray, others: np.ndarray, counts: np.ndarray, disk: Sequence[tuple[int, int]]) -> float:
    """Of the outline pixels that count, the share with one of the others within the disk; NaN without pixels."""
    reach = max(y for y, _ in disk)
    padded = np.pad(others, reach)
    rows, columns = np.nonzero(pixels & counts)
    total = len(rows)
    rows, columns = rows + reach, columns + reach
    for y, x in disk:
        far = ~padded[rows + y, columns + x]
        rows, columns = rows[far], columns[far]
    return 1 - len(rows) / total if total else math.nan
