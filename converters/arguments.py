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


def add_root(parser: argparse.ArgumentParser) -> None:
    """``--root OLD=NEW``, which may be repeated."""
    parser.add_argument(
        "--root", type=_root, action="append", default=[], metavar="OLD=NEW",
        help="look for files under NEW that the prototxt or a list names under OLD (may be repeated)",
    )  # fmt: skip


def _root(text: str) -> tuple[str, str]:
    """``OLD=NEW`` as a pair."""
    try:
        return parse_root(text)
    except CaffeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
