"""Caffe's commands: ``python -m caffe_compat COMMAND …`` for what ``caffe COMMAND`` and Caffe's other tools did."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from tqdm import tqdm

from caffe_compat.tools.arguments import spelled_out
from caffe_compat.training.report import CaffeFormatter
from prototxt.errors import CaffeError, nearest

#: In the order in which they are listed; each is a module of caffe_compat.tools.
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
_PROGRAM = "python -m caffe_compat"
_EPILOG = """\
`python -m caffe_compat COMMAND --help` explains a command. Flags may be written as for Caffe: -iterations 10,
--iterations=10 and -iterations=10 are the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "-help", "--help"):
        print(_overview())
        return 0
    name, *words = words
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        print(f"error: unknown command {name!r}; expected one of {', '.join(COMMANDS)}. {hint}", file=sys.stderr)
        return 2
    command = _module(name)
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    args = parser.parse_args(spelled_out(words, parser))
    with _logged():
        try:
            return command.run(args)
        except (CaffeError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


def _module(name: str) -> ModuleType:
    return import_module(f"caffe_compat.tools.{name}")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {_module(name).__doc__.splitlines()[0]}" for name in COMMANDS]
    return "\n".join([f"usage: {_PROGRAM} COMMAND …", "", "commands:", *lines, "", _EPILOG.rstrip()])


class _AboveProgressBars(logging.Handler):
    """Writes to stderr, and draws a progress bar anew below the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def _logged() -> Iterator[None]:
    """Send what the packages log to stderr, in glog's form; of several processes only the first tells all."""
    least = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    handler = _AboveProgressBars()
    handler.setFormatter(CaffeFormatter())
    loggers = [logging.getLogger(package) for package in ("caffe_compat", "prototxt")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(least)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
