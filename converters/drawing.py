"""Label maps as pictures: over the image with a legend, or bare in a palette."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from caffe_compat.data.resize import bilinear
from prototxt.errors import CaffeError
from prototxt.files import replacing

_OVERLAY = 0.6  # how much of a label's colour covers the image
_LEGEND_WIDTH = 150  # pixels
_LINE_HEIGHT = 16  # pixels


def distinct_colors(count: int) -> np.ndarray:
    """Colours (count, 3) for labels, RGB uint8, each far in hue from its neighbours'."""
    golden = 0.618034
    hues = [(label * golden % 1, 0.65 + 0.35 * (label % 2), 0.95 - 0.2 * (label % 3)) for label in range(count)]
    return np.array([[255 * part for part in colorsys.hsv_to_rgb(*hue)] for hue in hues]).astype(np.uint8)


def overlay(
    image: np.ndarray, labels: np.ndarray, colors: np.ndarray | None = None, names: Sequence[str] = ()
) -> Image.Image:
    """The image under its labels' colours, a legend of those that occur at the right, the most frequent first.

    Args:
        image: (H, W, 3) in BGR, uint8; of another size than the labels it is resized to theirs.
        labels: (h, w) from 0 to 255.
        colors: (K, 3) of labels from 0 on, RGB uint8; labels beyond them are black. By default distinct ones.
        names: of labels from 0 on; by default their numbers.
    """
    shares = np.bincount(labels.ravel()) / labels.size
    table = _table(distinct_colors(len(shares)) if colors is None else colors)
    height, width = labels.shape
    mixed = _OVERLAY * table[labels] + (1 - _OVERLAY) * bilinear(image, height, width)[:, :, ::-1]
    seen = sorted(np.flatnonzero(shares), key=lambda label: -shares[label])
    canvas = Image.new("RGB", (width + _LEGEND_WIDTH, max(height, _LINE_HEIGHT * (len(seen) + 1))), "white")
    canvas.paste(Image.fromarray(mixed.astype(np.uint8)))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default()
    for line, label in enumerate(seen):
        top = _LINE_HEIGHT * line + 8
        name = names[label] if label < len(names) else f"label {label}"
        draw.rectangle((width + 8, top, width + 20, top + 10), tuple(table[label].tolist()))
        draw.text((width + 28, top), f"{name}: {shares[label]:.1%}", "black", font)
    return canvas


def in_palette(labels: np.ndarray, colors: np.ndarray) -> Image.Image:
    """A palette image, whose pixels are the labels (h, w) themselves, shown in the colours (K, 3)."""
    height, width = labels.shape
    picture = Image.frombytes("P", (width, height), labels.astype(np.uint8).tobytes())
    picture.putpalette(_table(colors).ravel().tolist())
    return picture


def save_picture(picture: Image.Image, path: str | PathLike[str]) -> None:
    """Write a picture, whole or not at all; the file's ending chooses the format.

    Raises:
        CaffeError: no picture can be written under such an ending; MissingFileError: there is no such folder.
    """
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise CaffeError(f"{path}: ends in {Path(path).suffix!r}; expected the ending of an image format, such as .png")
    with replacing(path) as draft:
        picture.save(draft, format=kind)


def _table(colors: np.ndarray) -> np.ndarray:
    """The colour (256, 3) of every label that a byte can hold."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table
