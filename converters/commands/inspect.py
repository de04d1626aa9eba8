"""Show what is in a model file: dialect, layers, shapes, statistics, and values that look wrong.

Weights (.caffemodel, .caffemodel.h5), solver states, mean images and prototxt files of nets and solvers.
"""

from __future__ import annotations

import argparse

from converters.inspection import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which file."""
    parser.add_argument("file", help="the model file")


def run(args: argparse.Namespace) -> int:
    """Inspect."""
    print(describe(args.file))
    return 0
