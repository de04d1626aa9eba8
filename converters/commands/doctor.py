"""Look for what is wrong between a net and its weights: names, shapes, classes, batch normalisation, values, input.

The exit status is 1 when something is found. Remarks, on the range of values that an input expects, do not count.
"""

from __future__ import annotations

import argparse

from caffe_compat.tools.arguments import add_dialect
from converters.diagnosis import examine
from prototxt.net_file import find_net, read_net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What belongs together."""
    parser.add_argument("prototxt", help="a net prototxt, or the name of a network shipped with the project")
    parser.add_argument("weights", help="its .caffemodel or .caffemodel.h5")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Look."""
    found, remarks = examine(read_net(find_net(args.prototxt), args.dialect), args.weights)
    print("\n".join([*(found or ["nothing wrong found"]), *(f"remark: {remark}" for remark in remarks)]))
    return int(bool(found))
