"""A label image as a picture: in the colours of its classes, over the photograph it belongs to.

python -m segnet.overlay street.png labels.png street_labels.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from os import PathLike

import numpy as np
from PIL import Image

from caffe_compat.data.images import read_image, read_label
from converters.drawing import in_palette, overlay, save_picture
from prototxt.errors import CaffeError
from segnet.labels import add_classes, colors_of, told_classes


def draw_labels(
    labels: np.ndarray, names: Sequence[str], picture: str | PathLike[str], image: np.ndarray | None = None
) -> None:
    """Write labels (H, W) as a picture: a palette image, or with an image (BGR) over it and with a legend.

    The colours are CamVid's for CamVid's class names, else distinct ones; void is black.

    Raises:
        CaffeError: the picture's name has no ending of an image format; MissingFileError: its folder is not there.
    """
    colors = colors_of(names)
    drawn = in_palette(labels, colors) if image is None else overlay(image, labels, colors, [*names, "void"])
    save_picture(drawn, picture)


def read_classes(path: str | PathLike[str]) -> np.ndarray:
    """The classes in a label image (H, W) for people: of a palette image its numbers, else as Caffe reads it.

    Raises:
        MissingFileError, FormatError: as ``read_label``.
    """
    labels, doubt = read_label(path)
    if doubt:
        with Image.open(path) as image:
            return np.asarray(image) if image.mode == "P" else labels
    return labels


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m segnet.overlay", description="Draw a label image in colours over its image, with a legend."
    )
    parser.add_argument("image", help="the image")
    parser.add_argument("labels", help="its labels: a grey image whose values are the classes, or a palette image")
    parser.add_argument("picture", help="the picture to write")
    parser.add_argument("--bare", action="store_true", help="the colours alone, as a palette image")
    add_classes(parser)
    args = parser.parse_args(arguments)
    names = told_classes(args)
    try:
        image = None if args.bare else read_image(args.image)
        draw_labels(read_classes(args.labels), names, args.picture, image)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
