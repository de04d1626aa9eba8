"""A trained net over a list of images: the paper's measures, a table for each image, pictures.

    python -m segnet.evaluate inference.prototxt test_weights.caffemodel val.txt --save pictures --csv images.csv
    python -m segnet.evaluate net.pt val.txt

Images and labels are resized to the net's input, as a DenseImageData layer does it, and measured there.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tabulate import tabulate

from caffe_compat import TEST, Net, set_random_seed
from caffe_compat.data.images import read_image
from caffe_compat.engine import PRECISIONS
from caffe_compat.heap import keep_freed
from caffe_compat.tools.arguments import add_gpu, add_root, count, image_size, use_device
from caffe_compat.weights import load_weights
from converters.drawing import save_picture
from converters.pt_file import load_pt
from prototxt.errors import CaffeError
from prototxt.files import check_folder, replacing
from prototxt.net_file import find_net
from segnet.boundary import boundary_f1, mean_boundary_f1
from segnet.labels import add_classes, add_void, told_classes, told_void
from segnet.measures import CONVENTIONS, Confusion, Measures
from segnet.overlay import draw_labels
from segnet.segmenting import Segmented, Segmenter


class ImageResult(NamedTuple):
    """What was measured of one image."""

    image: Path
    pixels: int
    """That are not void."""
    measures: Measures
    """By the usual convention: few images have every class."""
    bf: np.ndarray | None
    """(K,) the F1 of each class's outline; see ``boundary_f1``."""
    uncertainty: float
    """Of the image's mean pixel; NaN where no samples were drawn."""


class Evaluation:
    """Adds up images.

    Args:
        classes: their number.
        void: labels that do not count; by default the one after the last class.
        boundaries: whether BF is measured.
    """

    def __init__(self, classes: int, void: Collection[int] | None = None, *, boundaries: bool = False) -> None:
        self.confusion = Confusion(classes, void)
        self.boundaries = boundaries
        self.images: list[ImageResult] = []

    def add(self, found: Segmented) -> None:
        """Measure one more image. Raises CaffeError with the file whose labels are outside the classes."""
        one = Confusion(self.confusion.classes, self.confusion.void)
        try:
            one.add(found.truth, found.prediction)
        except CaffeError as error:
            raise CaffeError([f"{found.label}: {problem}" for problem in error.problems]) from None
        self.confusion.matrix += one.matrix
        self.confusion.unnamed += one.unnamed
        bf = boundary_f1(found.truth, found.prediction, one.classes, one.void) if self.boundaries else None
        uncertainty = math.nan if found.uncertainty is None else float(found.uncertainty.mean())
        pixels = int(one.matrix.sum() + one.unnamed.sum())
        self.images.append(ImageResult(found.image, pixels, one.measures("usual"), bf, uncertainty))

    @property
    def bf(self) -> float:
        """BF over all images; NaN where it was not measured."""
        return mean_boundary_f1([image.bf for image in self.images]) if self.boundaries and self.images else math.nan

    def table(self, names: Sequence[str], convention: str = "tutorial") -> str:
        """The measures as tables for people, in percent."""
        found = self.confusion.measures(convention)
        rows = [list(names), *_percent(found.accuracies, found.ious)]
        headers = ["class", "accuracy", "IoU"]
        totals = {"G": found.global_accuracy, "C": found.class_accuracy, "mIoU": found.mean_iou}
        if self.boundaries:
            scores = np.array([image.bf for image in self.images])
            scored = (~np.isnan(scores)).sum(axis=0)
            rows += _percent(np.where(scored, np.nansum(scores, axis=0) / scored.clip(1), np.nan))
            headers.append("BF")
            totals["BF"] = self.bf
        align = ("left", *["right"] * (len(headers) - 1))
        per_class = tabulate(list(zip(*rows, strict=True)), headers, colalign=align, disable_numparse=True)
        (shares,) = _percent(list(totals.values()))
        overall = tabulate([shares], list(totals), colalign=["right"] * len(shares), disable_numparse=True)
        return f"{per_class}\n\n{overall}"

    def write_csv(self, path: str | os.PathLike[str], names: Sequence[str]) -> None:
        """Write a line for each image; shares between 0 and 1, empty where there is nothing to say.

        Raises:
            MissingFileError: there is no such folder.
        """
        with replacing(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            columns = ["image", "pixels", "global_accuracy", "class_accuracy", "mean_iou", "bf", "uncertainty"]
            writer.writerow([*columns, *(f"iou {name}" for name in names)])
            for image in self.images:
                bf = math.nan if image.bf is None else mean_boundary_f1([image.bf])
                numbers = [*image.measures[:3], bf, image.uncertainty, *image.measures.ious]
                told = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
                writer.writerow([image.image, image.pixels, *told])


def evaluate(
    segmenter: Segmenter,
    list_file: str | os.PathLike[str],
    classes: int,
    void: Collection[int] | None = None,
    *,
    boundaries: bool = False,
    size: tuple[int, int] | None = None,
    roots: Sequence[tuple[str, str]] = (),
    each: Callable[[Segmented], None] | None = None,
) -> Evaluation:
    """Measure a net over a list of images with labels.

    Args:
        segmenter: the net, as ``Segmenter(net)``.
        list_file, size, roots: as for ``Segmenter.over_list``.
        classes, void, boundaries: as for Evaluation.
        each: called with every image.

    Raises:
        CaffeError: of the list and the images.
    """
    evaluation = Evaluation(classes, void, boundaries=boundaries)
    for found in segmenter.over_list(list_file, size=size, roots=roots):
        evaluation.add(found)
        if each is not None:
            each(found)
    return evaluation


class Pictures:
    """Writes pictures of what was found, under the images' names.

    Of ``street.png`` these are ``street.png``, a palette image whose pixels are the labels, ``street_overlay.png``, and
    where samples were drawn ``street_uncertainty.png``, in which the image's most uncertain pixel is white.

    Args:
        folder: created where it is not there.
        names: of the classes.

    Raises:
        CaffeError: the folder cannot be created.
    """

    def __init__(self, folder: str | os.PathLike[str], names: Sequence[str]) -> None:
        self.folder, self.names = Path(folder), names
        self._written: dict[Path, Path] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaffeError(
                f"{folder}: the folder cannot be created ({error.strerror}); expected another one"
            ) from error

    def __call__(self, found: Segmented) -> None:
        """Write those of one image. Raises CaffeError when another image has written under the same name."""
        stem = self.folder / found.image.stem
        other = self._written.setdefault(stem, found.image)
        if other != found.image:
            raise CaffeError(
                f"{found.image} and {other} have one name, and so would their pictures in {self.folder}; expected a "
                "list of images with different names, for example one list for each folder"
            )
        prediction = found.prediction
        draw_labels(prediction, self.names, f"{stem}.png")
        draw_labels(prediction, self.names, f"{stem}_overlay.png", read_image(found.image))
        if found.uncertainty is not None:
            relative = found.uncertainty / max(found.uncertainty.max(), np.finfo(np.float32).tiny)
            save_picture(Image.fromarray((255 * relative).astype(np.uint8)), f"{stem}_uncertainty.png")


def _open_net(network: str, weights: str | None, roots: Sequence[tuple[str, str]]) -> Net:
    """A net from a ``.pt`` file, or from a prototxt and weights. Raises CaffeError, also where weights are missing."""
    if network.endswith(".pt"):
        if weights is not None:
            raise CaffeError(f"{network} holds its weights; expected no weights file beside it, found {weights}")
        return load_pt(network).eval()
    if weights is None:
        raise CaffeError(f"{network}: no weights file; expected NET.prototxt WEIGHTS LIST, or NET.pt LIST")
    net = Net(find_net(network), TEST, roots=roots)
    report = load_weights(net.graph, weights)
    if report.only_in_net:
        unused = ", ".join(report.only_in_file) or "nothing"
        raise CaffeError(
            f"{weights}: no weights for {', '.join(report.only_in_net)} of {network}, which would keep its fillers' "
            f"values; expected some for every layer. Left over in the file: {unused}; mend the names in the prototxt"
        )
    return net


def _percent(*shares: Sequence[float]) -> list[list[str]]:
    return [["–" if math.isnan(share) else f"{100 * share:.2f}" for share in one] for one in shares]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m segnet.evaluate",
        description="Measure a trained net over a list of images: G, C, mIoU, and BF on request.",
    )
    parser.add_argument("net", help="a net for inference: prototxt, name of a shipped network, or .pt file")
    parser.add_argument("weights", nargs="?", help="a .caffemodel or .caffemodel.h5; none for a .pt file")
    parser.add_argument("list", help="an image and its label image on each line, as for DenseImageData")
    parser.add_argument("--save", metavar="DIR", help="write labels and overlays as pictures, under the images' names")
    parser.add_argument("--csv", metavar="FILE", help="write the measures of each image")
    parser.add_argument("--bf", action="store_true", help="measure boundaries too")
    parser.add_argument("--convention", choices=CONVENTIONS, default="tutorial", help=(
        "a class that does not occur counts as 0 in the means (tutorial, the default) or is left out (usual)"
    ))  # fmt: skip
    add_classes(parser, "the net's, or 11 where it ends in an ArgMax")
    add_void(parser)
    parser.add_argument("--samples", type=count, metavar="N", help=(
        "samples that a Bayesian net draws for each image (default: as many as it takes items at a time)"
    ))  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of these samples (default: 0)")
    parser.add_argument("--engine", nargs="?", const="fp32", choices=tuple(PRECISIONS), help=(
        "run the net's engine, which is faster, in this precision (default: the net itself; fp32)"
    ))  # fmt: skip
    parser.add_argument("--input-size", type=image_size, metavar="HxW", help="size to run at (default: the net's)")
    add_gpu(parser)
    add_root(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        use_device(args.gpu)
        set_random_seed(args.seed)
        if args.engine is None:  # the engine asks for little at a time, and gives it back
            keep_freed()
        segmenter = Segmenter(_open_net(args.net, args.weights, args.root), args.samples, args.engine)
        names = told_classes(args, segmenter.classes)
        if args.csv:
            check_folder(args.csv)
        found = evaluate(
            segmenter,
            args.list,
            len(names),
            told_void(args, names),
            boundaries=args.bf,
            size=args.input_size,
            roots=args.root,
            each=Pictures(args.save, names) if args.save else None,
        )
        print(found.table(names, args.convention))
        if args.csv:
            found.write_csv(args.csv, names)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
