"""What several commands understand on their command lines."""

from __future__ import annotations

import argparse

from caffe_compat.paths import parse_root
from prototxt.errors import CaffeError


def image_size(text: str) -> tuple[int, int]:
    """``HEIGHTxWIDTH`` as a pair."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected HEIGHTxWIDTH, e.g. 360x480") from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected sizes of at least 1")
    return height, width


def root(text: str) -> tuple[str, str]:
    """``OLD=NEW`` as a pair."""
    try:
        return parse_root(text)
    except CaffeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=N,C,H,W`` as a name and a shape."""
    name, equals, dims = text.rpartition("=")
    try:
        shape = tuple(int(dim) for dim in dims.split(","))
    except ValueError:
        shape = ()
    if not (name and equals and shape) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a blob and its shape, e.g. data=1,3,360,480")
    return name, shape
