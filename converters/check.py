"""One image through a net, and a picture of the labels it gives: a first look whether a conversion makes sense."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from caffe_compat import Net
from caffe_compat.data.images import read_image
from caffe_compat.data.resize import bilinear
from caffe_compat.deciding import deciding_blob
from caffe_compat.errors import NetError
from converters.drawing import overlay, save_picture


def check_image(net: Net, image: str | PathLike[str], picture: str | PathLike[str]) -> str:
    """Run one image, resized to the net's input (BGR, 0 to 255, nothing subtracted), and draw its labels over it.

    A net that takes several items gets the image as each of them, and their scores are averaged: the Monte-Carlo
    samples of a Bayesian net. A net that reads its own data is run with one item.

    Args:
        net: the net, on any device. Its blobs are overwritten.
        image: the image file.
        picture: the picture file to write; its ending chooses the format.

    Returns:
        A few lines for people: the shares of the labels, and where the picture is.

    Raises:
        MissingFileError, FormatError: of the image; NetError: the net has no image input, or no map of labels.
    """
    pixels = read_image(image)
    first = feed_image(net, pixels)
    net._forward(first, len(net.layers) - 1)
    name, labels, classes = _labels(net)
    shares = np.bincount(labels.ravel(), minlength=classes) / labels.size
    height, width = labels.shape
    save_picture(overlay(pixels, labels), picture)
    seen = sorted(np.flatnonzero(shares), key=lambda label: -shares[label])
    text = ", ".join(f"{label}: {shares[label]:.1%}" for label in seen[:8]) + (", …" if len(seen) > 8 else "")
    return f"{Path(image).name} at {height}×{width}, labels by blob {name!r}: {text}\npicture: {picture}"


def feed_image(net: Net, pixels: np.ndarray) -> int:
    """Put an image (h, w, 3), BGR, into the net's image input, zeros into the others of a net that reads its own data.

    Returns the first layer to run. Raises NetError where no input takes a colour image.
    """
    feeds = {name: tuple(net.blobs[name].shape) for name in net.graph.feeds}
    images = [name for name, shape in feeds.items() if len(shape) == 4 and shape[1] == 3]
    if not images:
        shown = ", ".join(f"{name} {shape}" for name, shape in feeds.items())
        raise NetError(f"no input takes a colour image; expected one of shape (N, 3, H, W), found {shown}")
    sources = [i for i, node in enumerate(net.graph.nodes) if node.layer.is_source]
    if sources and not net.inputs:
        for name, shape in feeds.items():
            net.blobs[name].reshape(1, *shape[1:])
        net.reshape()
        for name in feeds:
            net.blobs[name].data[...] = 0  # labels: any class that exists
    height, width = feeds[images[0]][2:]
    net.blobs[images[0]].data[...] = bilinear(pixels, height, width).transpose(2, 0, 1)
    return sources[-1] + 1 if sources else 0


def _labels(net: Net) -> tuple[str, np.ndarray, int]:
    """The blob that decides, its labels (H, W), and the number of classes."""
    name, holds_labels = deciding_blob(net)
    values = net.blobs[name].data
    if holds_labels:
        labels = values[0, 0].astype(np.int64)
        return name, labels, int(labels.max()) + 1
    scores = values.mean(axis=0)
    labels = len(scores) - 1 - scores[::-1].argmax(axis=0)  # ties to the largest index, as Caffe's ArgMax
    return name, labels, len(scores)
