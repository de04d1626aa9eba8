"""Writing an LMDB: the folder appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import lmdb

from prototxt.errors import CaffeError, FormatError, MissingFileError

_BATCH = 1 << 26  # bytes that are held back before they are written
_FIRST_SIZE = 1 << 26  # of the memory map, which is doubled when it is full


@contextmanager
def new_lmdb(path: str | os.PathLike[str]) -> Iterator[LmdbWriter]:
    """A new LMDB to put records into; it takes its place when the block ends well, else nothing is left of it.

    Raises:
        CaffeError: there is something of that name, or it cannot be written; MissingFileError: no folder to put it in.
    """
    target = Path(path)
    if target.exists():
        raise CaffeError(f"{path}: exists already; expected a new name, or delete it first")
    if not target.parent.is_dir():
        raise MissingFileError(f"{path}: there is no folder {target.parent} to write to; create it first")
    draft = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    try:
        writer = LmdbWriter(draft, str(path))
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        draft.rename(target)
    except lmdb.Error as error:
        raise CaffeError(f"{path}: cannot be written ({error}); look whether the disk is full") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class LmdbWriter:
    """Records on their way into an LMDB."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        folder.mkdir()
        # synchronised once, at the end: what is unfinished is thrown away anyhow
        self._env = lmdb.open(str(folder), map_size=_FIRST_SIZE, mode=0o644, lock=False, sync=False)
        self._waiting: list[tuple[bytes, bytes]] = []
        self._bytes = 0

    def put(self, key: str, value: bytes) -> None:
        """Add a record. Raises FormatError for a key that LMDB cannot hold."""
        encoded = os.fsencode(key)
        limit = self._env.max_key_size()
        if len(encoded) > limit:
            raise FormatError(f"{self.name}: the key {key!r} has {len(encoded)} bytes; expected {limit} at most")
        self._waiting.append((encoded, value))
        self._bytes += len(value)
        if self._bytes > _BATCH:
            self._write()

    def finish(self) -> None:
        """Write what is left, to the disk."""
        self._write()
        self._env.sync(True)

    def close(self) -> None:
        """Let go of the files."""
        self._env.close()

    def _write(self) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(self._waiting)
                break
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
        self._waiting, self._bytes = [], 0
