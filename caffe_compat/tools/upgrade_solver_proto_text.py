"""Rewrite a solver prototxt of an older generation in the current one: `solver_type: ADAM` becomes `type: "Adam"`."""

from __future__ import annotations

import argparse
import logging

from prototxt import text
from prototxt.caffe_pb2 import SolverParameter
from prototxt.files import replacing
from prototxt.net_file import read_solver

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("input", metavar="IN", help="a solver prototxt")
    parser.add_argument("output", metavar="OUT", help="the file to write")


def run(args: argparse.Namespace) -> int:
    """Upgrade."""
    upgraded = read_solver(args.input)
    if upgraded == text.read(args.input, SolverParameter)[0]:
        log.warning("File already in latest proto format: %s", args.input)
    with replacing(args.output) as draft:
        draft.write_text(text.format(upgraded), "utf-8")
    log.info("Wrote upgraded SolverParameter text proto to %s", args.output)
    return 0
