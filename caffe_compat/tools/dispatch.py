"""A command line with several commands, each of them a module with ``add_arguments(parser)`` and ``run(args)``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from tqdm import tqdm

from caffe_compat.tools.arguments import spelled_out
from prototxt.errors import CaffeError, nearest


class Program(NamedTuple):
    """What ``python -m PACKAGE`` offers."""

    name: str
    """As it is typed."""
    package: str
    """Where the modules of the commands are; a dash in a command is an underscore in its module."""
    commands: Sequence[str]
    """In the order in which they are listed."""
    epilog: str
    formatter: logging.Formatter
    """Of what the packages log while a command runs."""
    level: int
    """From which on that is shown."""

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """The command line. Returns the exit status."""
        words = list(sys.argv[1:] if arguments is None else arguments)
        if not words or words[0] in ("-h", "-help", "--help"):
            print(self._overview())
            return 0
        name, *words = words
        if name not in self.commands:
            hint = nearest(name, self.commands)
            known = ", ".join(self.commands)
            print(f"error: unknown command {name!r}; expected one of {known}. {hint}", file=sys.stderr)
            return 2
        command = self._module(name)
        parser = argparse.ArgumentParser(
            prog=f"{self.name} {name}",
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(parser)
        args = parser.parse_args(spelled_out(words, parser))
        with self._logged():
            try:
                return command.run(args)
            except (CaffeError, OSError) as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                return 130

    def _module(self, name: str) -> ModuleType:
        return import_module(f"{self.package}.{name.replace('-', '_')}")

    def _overview(self) -> str:
        width = max(map(len, self.commands))
        lines = [f"  {name:<{width}}  {self._module(name).__doc__.splitlines()[0]}" for name in self.commands]
        return "\n".join([f"usage: {self.name} COMMAND …", "", "commands:", *lines, "", self.epilog.rstrip()])

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Send what the packages log to stderr; of several processes only the first tells all."""
        least = self.level if os.environ.get("RANK", "0") == "0" else logging.WARNING
        handler = _AboveProgressBars()
        handler.setFormatter(self.formatter)
        loggers = [logging.getLogger(package) for package in ("caffe_compat", "converters", "prototxt")]
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


class _AboveProgressBars(logging.Handler):
    """Writes to stderr, and draws a progress bar anew below the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        tqdm.write(self.format(record), file=sys.stderr)
