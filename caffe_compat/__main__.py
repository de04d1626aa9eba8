"""Caffe's commands: ``python -m caffe_compat COMMAND …`` for what ``caffe COMMAND`` and Caffe's other tools did."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from caffe_compat.tools.dispatch import Program
from caffe_compat.training.report import CaffeFormatter

COMMANDS = (
    "train",
    "test",
    "time",
    "device_query",
    "convert_imageset",
    "compute_image_mean",
    "extract_features",
    "upgrade_net_proto_text",
    "upgrade_net_proto_binary",
    "upgrade_solver_proto_text",
    "parse_log",
)
_EPILOG = """\
`python -m caffe_compat COMMAND --help` explains a command. Flags may be written as for Caffe: -iterations 10,
--iterations=10 and -iterations=10 are the same.
"""
_PROGRAM = Program(
    "python -m caffe_compat", "caffe_compat.tools", COMMANDS, _EPILOG, CaffeFormatter(), logging.INFO
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    return _PROGRAM.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
