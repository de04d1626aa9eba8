"""Show what is in a model file: dialect, layers, shapes, statistics, and values that look wrong.

Weights (.caffemodel, .caffemodel.h5), solver states, mean images and prototxt files of nets and solvers; a network that
is shipped with the project by its name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converters.inspection import describe
from prototxt.net_file import find_net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which file."""
    parser.add_argument("file", help="the model file, or the name of a shipped network")


def run(args: argparse.Namespace) -> int:
    """Inspect."""
    is_name = not Path(args.file).exists() and not Path(args.file).suffix
    print(describe(find_net(args.file) if is_name else args.file))
    return 0
