"""Model files on the disk: mapped into memory to read, appearing complete or not at all when written."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from prototxt.errors import MissingFileError, nearest


def map_file(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a file, read-only, read from the disk as they are used; it must not be overwritten meanwhile.

    Replacing it, as ``replacing`` does, is harmless. Raises MissingFileError.
    """
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")  # nothing to map
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        folder, name = os.path.split(path)
        others = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        what = "is a folder" if isinstance(error, IsADirectoryError) else "does not exist"
        remedy = nearest(name, set(others) - {name}) or "give the path of a file"
        raise MissingFileError(f"{path}: {what}; {remedy}") from error


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise MissingFileError if there is no folder for a file to be written in."""
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise MissingFileError(f"{path}: there is no folder {folder} to write to; create it first")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes ``path``'s place when the block ends well, else it is removed.

    Raises MissingFileError if the folder does not exist.
    """
    check_folder(path)
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    try:
        yield draft
        os.replace(draft, target)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
