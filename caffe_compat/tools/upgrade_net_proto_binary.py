"""Rewrite a caffemodel of an older generation in the current one.

V0 and V1 become V2; the weights stay as they are. With --dialect bvlc also `input` becomes an Input layer, and the
file gets that dialect's numbers.
"""

from __future__ import annotations

import argparse
import logging

from caffe_compat.tools.arguments import add_dialect
from prototxt.caffemodel import new_caffemodel, read_caffemodel
from prototxt.upgrade import upgrade_net

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("input", metavar="IN", help="a caffemodel of any generation")
    parser.add_argument("output", metavar="OUT", help="the file to write")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Upgrade."""
    model = read_caffemodel(args.input)
    dialect = args.dialect or model.dialect
    net, origins = upgrade_net(model.net(), dialect)
    if model.generation == "V2" and net == model.net():
        log.warning("File already in latest proto format: %s", args.input)
    blobs = {i: model.layers[origin].blobs for i, origin in enumerate(origins) if origin is not None}
    new_caffemodel(net, blobs, dialect).write(args.output)
    log.info("Wrote upgraded NetParameter binary proto to %s", args.output)
    return 0
