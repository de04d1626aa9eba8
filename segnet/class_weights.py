"""Median frequency balancing (paper, section 3.2): the weight of each class in the loss, from a list of label images.

    python -m segnet.class_weights train.txt

prints the lines to paste into loss_param. freq(c) is the number of pixels of class c divided by the number of all
pixels, void ones too, of the images that have some of class c; the weight is the median of the frequencies over
freq(c).

On the tutorial's own list that is 1.02 to 1.20 times the weights published for CamVid (0.94 to 1.11 times with void as
a twelfth class in the median), but for SignSymbol: 9.6446 was published, 3.85 comes out.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from caffe_compat.data.images import read_label
from caffe_compat.data.list_source import count_missing
from caffe_compat.data.lists import read_pairs
from caffe_compat.paths import Paths
from caffe_compat.tools.arguments import add_root
from prototxt.errors import CaffeError, FormatError, MissingFileError
from segnet.labels import add_classes, add_void, strange_labels, told_classes, told_void

log = logging.getLogger(__name__)

_SHOWN = 10


class ClassWeights(NamedTuple):
    """The weights of K classes and what they come from; each array is (K,)."""

    weights: np.ndarray
    """0 for a class without pixels and for one that is void."""
    frequencies: np.ndarray
    """NaN for such classes."""
    pixels: np.ndarray
    images: np.ndarray
    """In how many images a class occurs."""


def class_weights(
    list_file: str | os.PathLike[str],
    classes: int,
    void: Collection[int] | None = None,
    *,
    roots: Sequence[tuple[str, str]] = (),
) -> ClassWeights:
    """Weigh the classes by their median frequency.

    Args:
        list_file: names an image and its label image on each line.
        classes: their number.
        void: labels that do not count; by default the one after the last class.
        roots: pairs ``(old, new)`` of path prefixes, for files that lie elsewhere than the list says.

    Raises:
        MissingFileError, FormatError: of the list and the label images, and for labels outside the classes.
    """
    void = frozenset([classes] if void is None else void)
    pixels, images, of_images = np.zeros((3, classes), np.int64)
    problems = []
    doubt = ""
    for path in tqdm(_label_files(list_file, roots), desc="label images", disable=None):
        label, its_doubt = read_label(path)
        doubt = doubt or (its_doubt and f"{path} is {its_doubt}")
        values, counts = np.unique(label, return_counts=True)
        if problem := strange_labels(zip(values.tolist(), counts.tolist(), strict=True), classes, void):
            problems.append(f"{path}: {problem}")
            continue
        known = np.isin(values, range(classes))
        here = values[known].astype(int)
        pixels[here] += counts[known]
        images[here] += 1
        of_images[here] += label.size
    if doubt:
        log.warning("%s; expected an 8-bit grey image whose values are the classes", doubt)
    if problems:
        more = [f"and {len(problems) - _SHOWN} label images more"] if len(problems) > _SHOWN else []
        raise FormatError(problems[:_SHOWN] + more)
    judged = (images > 0) & ~np.isin(range(classes), list(void))
    frequencies = np.full(classes, np.nan)
    frequencies[judged] = pixels[judged] / of_images[judged]
    weights = np.zeros(classes)
    weights[judged] = np.median(frequencies[judged]) / frequencies[judged] if judged.any() else 0
    return ClassWeights(weights, frequencies, pixels, images)


def loss_param(found: ClassWeights, names: Sequence[str], void: Collection[int]) -> str:
    """The lines for ``loss_param``, a comment with each class."""
    lines = ["weight_by_label_freqs: true", *(f"ignore_label: {label}" for label in sorted(void)[:1])]
    for label, (weight, frequency, pixels, images) in enumerate(zip(*found, strict=True)):
        told = "void" if label in void else f"{pixels} pixels in {images} images"
        share = "" if np.isnan(frequency) else f", {frequency:.2%} of theirs"
        lines.append(f"class_weighting: {weight:.5g}  # {label} {names[label]}: {told}{share}")
    return "\n".join(lines)


def _label_files(list_file: str | os.PathLike[str], roots: Sequence[tuple[str, str]]) -> list[os.PathLike[str]]:
    """Where the label images lie. Raises MissingFileError with the number of those that are missing."""
    paths = Paths(roots=roots)
    list_file = paths.resolve(list_file)
    names = [label for _, label in read_pairs(list_file)]
    try:
        return [paths.resolve(name, list_file) for name in names]
    except MissingFileError as error:
        raise MissingFileError([str(error), count_missing(names, list_file, paths)]) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m segnet.class_weights",
        description="Weights of the classes by median frequency balancing, as lines for loss_param.",
    )
    parser.add_argument("list", help="an image and its label image on each line, as for DenseImageData")
    add_classes(parser)
    add_void(parser)
    add_root(parser)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    names = told_classes(args)
    void = told_void(args, names)
    try:
        found = class_weights(args.list, len(names), void, roots=args.root)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if len(void) > 1:
        log.warning("Caffe's loss leaves out one label only; expected the others to be mapped to it in the images")
    print(loss_param(found, names, void))
    return 0


if __name__ == "__main__":
    sys.exit(main())
