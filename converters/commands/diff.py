"""Compare two model files: weights layer by layer, or two nets' prototxt files.

The exit status is 0 where they are the same, 1 where they differ, as diff's.
"""

from __future__ import annotations

import argparse

from converters.differences import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which files."""
    parser.add_argument("a", metavar="A", help="a .caffemodel, .caffemodel.h5 or net prototxt")
    parser.add_argument("b", metavar="B", help="another of the same kind")


def run(args: argparse.Namespace) -> int:
    """Compare."""
    found = compare(args.a, args.b)
    print(found or "no difference")
    return 1 if found else 0
