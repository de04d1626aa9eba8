"""Small tools for model files: ``python -m converters COMMAND …``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from caffe_compat.tools.dispatch import Program

COMMANDS = (
    "inspect",
    "diff",
    "doctor",
    "resize-net",
    "set-classes",
    "set-channels",
    "absorb",
    "vgg16",
    "estimate",
    "rewrite",
)
_EPILOG = """\
`python -m converters COMMAND --help` explains a command. Whole conversions are commands of their own:
python -m converters.caffe2torch, python -m converters.torch2caffe, python -m converters.caffe2onnx,
python -m converters.translate.
"""
_PROGRAM = Program(
    "python -m converters",
    "converters.commands",
    COMMANDS,
    _EPILOG,
    logging.Formatter("%(levelname)s: %(message)s"),
    logging.WARNING,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    return _PROGRAM.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
