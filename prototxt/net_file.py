"""Net and solver files, ready to build on: read, upgraded, their dialect known, their layers' lines remembered."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from prototxt import text
from prototxt.caffe_pb2 import NetParameter, SolverParameter
from prototxt.dialects import check_dialect, detect
from prototxt.errors import FormatError, MissingFileError, nearest
from prototxt.upgrade import upgrade_net, upgrade_solver

#: Networks that are shipped with the project.
ZOO = Path(__file__).parent / "zoo"


@dataclass
class NetFile:
    """A net as read from a file."""

    path: str
    """Where it comes from, for messages and for files that it names."""
    message: NetParameter
    """In the current generation, with the layers of every phase."""
    lines: list[int | None]
    """For each layer of the message its line in the file; None for one that an upgrade has made."""
    dialect: str
    """Whose Caffe it is for: as asked, else as its text gives away, else "segnet"."""
    evidence: bool
    """Whether the text gives its dialect away."""

    @classmethod
    def from_message(cls, message: NetParameter, dialect: str | None = None) -> NetFile:
        """A net that was made in memory, of which a copy is kept. Raises FormatError; CaffeError: unknown dialect."""
        copied = NetParameter()
        copied.CopyFrom(message)
        return _upgraded(copied, text.Positions(), "net in memory", dialect)


def read_net(path: str | os.PathLike[str], dialect: str | None = None) -> NetFile:
    """Read a net prototxt of any generation and dialect.

    Args:
        path: the file.
        dialect: one of ``DIALECTS``, where the file's own evidence shall not decide.

    Raises:
        MissingFileError: it is not there.
        FormatError: with every mistake in it; CaffeError for an unknown dialect.
    """
    message, positions = text.read(path, NetParameter)
    return _upgraded(message, positions, str(path), dialect)


def parse_net(content: str, name: str = "net", dialect: str | None = None) -> NetFile:
    """The same for text in memory; ``name`` stands for the file in messages."""
    message, positions = text.parse(content, NetParameter, name)
    return _upgraded(message, positions, name, dialect)


def read_solver(path: str | os.PathLike[str]) -> SolverParameter:
    """Read a solver prototxt; the old ``solver_type`` becomes ``type``. Raises as ``read_net``."""
    message, _ = text.read(path, SolverParameter)
    try:
        return upgrade_solver(message)
    except FormatError as error:
        raise FormatError([f"{path}: {problem}" for problem in error.problems]) from error


def find_net(name: str | os.PathLike[str]) -> Path:
    """A file of the user's, or a shipped network by its name, with or without ``.prototxt``.

    Raises:
        MissingFileError: it is neither; names the shipped networks.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(ZOO.glob("*.prototxt"))}
    stem = path.name.removesuffix(".prototxt")
    if path.name == os.fspath(name) and stem in shipped:
        return shipped[stem]
    hint = nearest(stem, shipped)
    raise MissingFileError(
        f"{name}: there is no such file, nor a shipped network of that name; expected a prototxt file or one of "
        f"{', '.join(shipped)}" + (f"; {hint}" if hint else "")
    )


def _upgraded(message: NetParameter, positions: text.Positions, name: str, dialect: str | None) -> NetFile:
    found = detect(message)
    dialect = check_dialect(dialect) if dialect is not None else found or "segnet"
    written = "layers" if message.layers else "layer"
    try:
        upgraded, origins = upgrade_net(message, dialect)
    except FormatError as error:
        raise FormatError([f"{name}: {problem}" for problem in error.problems]) from error
    lines = [None if origin is None else positions.line(written, origin) for origin in origins]
    return NetFile(name, upgraded, lines, dialect, found is not None)
