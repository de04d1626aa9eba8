"""LMDB and LevelDB databases as Caffe reads them: records in the order of their keys, here by their number.

A database may be far larger than memory, and so may the list of its keys. The key of every 64th record is remembered
as it is passed, and the last one that was read; from the nearest of these the wanted record is a few steps away.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from prototxt.caffe_pb2 import DataParameter
from prototxt.errors import FormatError, MissingFileError

log = logging.getLogger(__name__)

_STRIDE = 64
_opening = threading.Lock()
_open: WeakValueDictionary[tuple[Path, int], Database] = WeakValueDictionary()
"""Neither library opens a database twice in one program."""


def open_database(path: Path, backend: int) -> Database:
    """The database in a folder, for ``backend`` LMDB or LEVELDB; the same object for everybody.

    Raises:
        FormatError: it is damaged, empty, or not of that kind.
        MissingFileError: it is a LevelDB, and the package that reads it is not there.
    """
    key = path.resolve(), backend
    with _opening:
        found = _open.get(key)
        if found is None:
            found = _open[key] = _KINDS[backend](path)
    return found


class Database(ABC):
    """Records by their number. Any thread may read."""

    def __init__(self, path: Path, backend: int) -> None:
        self.path, self._backend = path, backend
        self._marks: dict[int, bytes] = {}
        """The keys of records 0, 64, 128, … as far as they were passed."""
        self._last: tuple[int, bytes] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return open_database, (self.path, self._backend)

    @abstractmethod
    def __len__(self) -> int:
        """The number of records."""

    @abstractmethod
    def walk(self, start: bytes | None) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Keys and values from a key on, or from the first; a value only lasts until the next step."""

    def __getitem__(self, number: int) -> tuple[str, bytes]:
        """Key and value of a record. Raises FormatError."""
        first, start = self._nearest(number)
        with closing(self.walk(start)) as records:
            for at, (key, value) in enumerate(records, first):
                if at % _STRIDE == 0:
                    self._marks.setdefault(at // _STRIDE, key)
                if at == number:
                    self._last = at, key
                    return key.decode("utf-8", "replace"), bytes(value)
        raise FormatError(f"{self.path}: ends before record {number} of {len(self)}; write the database again")

    def _nearest(self, number: int) -> tuple[int, bytes | None]:
        """The nearest record before, whose key is known, and the key; None for the first record."""
        mark = min(number // _STRIDE, len(self._marks) - 1)
        known = (mark * _STRIDE, self._marks[mark]) if mark >= 0 else (0, None)
        last = self._last
        return last if last is not None and known[0] <= last[0] <= number else known


class Lmdb(Database):
    """An LMDB: a folder with ``data.mdb``, or such a file itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, DataParameter.LMDB)
        if path.is_dir() and not (path / "data.mdb").is_file():
            other = "it is a LevelDB; write `backend: LEVELDB`" if _is_leveldb(path) else "give the folder of an LMDB"
            raise FormatError(f"{path}: has no data.mdb, so it is no LMDB; {other}")
        try:
            # without a lock: a training set is not written while it is read, and may lie where nobody can write
            self._env = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False)
        except lmdb.Error as error:
            raise FormatError(
                f"{path}: LMDB cannot read it ({error}); close it where this program has it open, or copy it again"
            ) from error
        stat = self._env.stat()
        self._records = stat["entries"]
        file = path / "data.mdb" if path.is_dir() else path
        wanted = (self._env.info()["last_pgno"] + 1) * stat["psize"]
        if file.stat().st_size < wanted:  # reading on would kill the program
            raise FormatError(f"{file}: has {file.stat().st_size} bytes of {wanted}; it was cut off, copy it again")
        _refuse_empty(self)

    def __len__(self) -> int:
        return self._records

    def walk(self, start: bytes | None) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Values are views of the mapped file, so that records which are passed over cost nothing."""
        with self._env.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            if cursor.set_key(start) if start is not None else cursor.first():
                for key, value in cursor:
                    yield bytes(key), value


class LevelDb(Database):
    """A LevelDB folder. All keys are passed once to count them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, DataParameter.LEVELDB)
        if not _is_leveldb(path):
            lmdb_here = path.is_dir() and (path / "data.mdb").is_file()
            other = "it is an LMDB; write `backend: LMDB`" if lmdb_here else "give the folder of a LevelDB"
            raise FormatError(f"{path}: has no file CURRENT, so it is no LevelDB; {other}")
        try:
            import plyvel
        except ImportError:
            raise MissingFileError(
                f"{path}: a LevelDB, which the package plyvel reads; it is not installed. Install it with `pip install "
                '"caffe-segnet[leveldb]"` (or `pip install plyvel`), or write the database as an LMDB '
                "(`convert_imageset -backend=lmdb`) and give `backend: LMDB`"
            ) from None
        try:
            self._db = plyvel.DB(str(path))
            log.info("%s: counting its records", path)
            with self._db.iterator(include_value=False) as keys:
                self._records = sum(1 for _ in keys)
        except plyvel.Error as error:
            raise FormatError(
                f"{path}: LevelDB cannot read it ({error}); end the other program that has it open, or write it again"
            ) from error
        _refuse_empty(self)

    def __len__(self) -> int:
        return self._records

    def walk(self, start: bytes | None) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """In the order of keys."""
        with self._db.iterator(start=start) as records:
            yield from records


_KINDS = {DataParameter.LMDB: Lmdb, DataParameter.LEVELDB: LevelDb}


def _is_leveldb(path: Path) -> bool:
    return (path / "CURRENT").is_file()


def _refuse_empty(database: Database) -> None:
    if not len(database):
        raise FormatError(f"{database.path}: the database is empty; expected records, as convert_imageset writes them")
