"""What labels stand for: the classes that commands are told of, and labels that are none of them."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from caffe_compat.tools.arguments import count, names
from converters.drawing import distinct_colors
from segnet import camvid


def strange_labels(counts: Iterable[tuple[float, int]], classes: int, void: Collection[int]) -> str:
    """What is wrong with labels, given as pairs of a value and how often it occurs; empty when nothing is."""
    strange = [
        f"{value:g} ({times} times)"
        for value, times in counts
        if value not in void and not (0 <= value < classes and value == int(value))
    ]
    if not strange:
        return ""
    return (
        f"labels outside the classes: {', '.join(strange)}; expected 0 to {classes - 1}, or void: "
        f"{', '.join(map(str, sorted(void))) or 'none'}. Give the number of classes (--classes), name further labels "
        "to leave out (--ignore), or mend the label image"
    )


def colors_of(class_names: Sequence[str]) -> np.ndarray:
    """A colour (RGB uint8) for each class: CamVid's palette, with void, for CamVid's classes, else distinct ones."""
    return (
        np.array(camvid.PALETTE, np.uint8)
        if tuple(class_names) == camvid.CLASSES
        else distinct_colors(len(class_names))
    )


def add_classes(parser: argparse.ArgumentParser, default: str = f"{len(camvid.CLASSES)}, as in CamVid") -> None:
    """Let a command be told of the classes: ``--classes`` or ``--names``."""
    parser.add_argument("--classes", type=count, metavar="N", help=f"number of classes (default: {default})")
    parser.add_argument("--names", type=names, metavar="A,B,…", help="names of the classes, in place of their number")


def add_void(parser: argparse.ArgumentParser) -> None:
    """Let a command be told of labels that do not count: ``--ignore``."""
    parser.add_argument(
        "--ignore", type=int, action="append", metavar="LABEL",
        help="a label that does not count, may be repeated (default: the one after the last class)",
    )  # fmt: skip


def told_classes(args: argparse.Namespace, default: int | None = None) -> list[str]:
    """The names of the classes that the arguments say; their numbers, unless they are as many as CamVid's."""
    if args.names:
        return args.names
    number = args.classes or default or len(camvid.CLASSES)
    return list(camvid.CLASSES) if number == len(camvid.CLASSES) else [str(label) for label in range(number)]


def told_void(args: argparse.Namespace, class_names: Sequence[str]) -> frozenset[int]:
    """The labels that do not count."""
    return frozenset([len(class_names)] if args.ignore is None else args.ignore)
