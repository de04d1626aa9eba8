"""Rewrite a net prototxt of an older generation in the current one.

V0 and V1 (`layers { … }`) become V2 (`layer { … }`). With --dialect bvlc also `input` becomes an Input layer.
"""

from __future__ import annotations

import argparse
import logging

from caffe_compat.tools.arguments import add_dialect
from prototxt import text
from prototxt.caffe_pb2 import NetParameter
from prototxt.files import replacing
from prototxt.net_file import read_net

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("input", metavar="IN", help="a net prototxt of any generation")
    parser.add_argument("output", metavar="OUT", help="the file to write")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Upgrade."""
    upgraded = read_net(args.input, args.dialect).message
    if upgraded == text.read(args.input, NetParameter)[0]:
        log.warning("File already in latest proto format: %s", args.input)
    with replacing(args.output) as draft:
        draft.write_text(text.format(upgraded), "utf-8")
    log.info("Wrote upgraded NetParameter text proto to %s", args.output)
    return 0
