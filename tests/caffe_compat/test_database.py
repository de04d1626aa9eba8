"""LMDB and LevelDB by the number of a record."""

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from caffe_compat.data.database import open_database
from prototxt.caffe_pb2 import DataParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.databases import WRITERS, write_leveldb, write_lmdb

LMDB, LEVELDB = DataParameter.LMDB, DataParameter.LEVELDB
both = pytest.mark.parametrize("backend", [LMDB, LEVELDB], ids=["lmdb", "leveldb"])
VALUES = [b"%d" % number * 3 for number in range(300)]


@pytest.fixture
def make(tmp_path):
    return lambda backend, values=VALUES: open_database(WRITERS[backend](tmp_path / "db", values), backend)


def read(database, numbers):
    found = [database[number] for number in numbers]
    assert all(key == f"{number:08d}_im" for number, (key, _) in zip(numbers, found, strict=True))
    return [value for _, value in found]


@both
@pytest.mark.parametrize(
    "numbers", [range(300), [299, 0, 64, 63, 65, 128, 299, 1], [200, 130, 140, 64, 0]], ids=["on", "about", "back"]
)
def test_records_in_any_order(make, backend, numbers):
    database = make(backend)
    assert len(database) == 300
    assert read(database, numbers) == [VALUES[number] for number in numbers]
    assert len(database._marks) == max(numbers) // 64 + 1


@both
def test_many_threads(make, backend):
    database = make(backend)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda first: read(database, range(first, 300, 7)), range(7)))
    assert found == [VALUES[first::7] for first in range(7)]


@both
def test_opened_once_for_all_and_copied_by_path(make, backend):
    database = make(backend)
    assert open_database(database.path, backend) is database
    assert pickle.loads(pickle.dumps(database)) is database


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_lmdb_in_a_forked_process(make):
    database = make(LMDB)
    assert database[3][1] == VALUES[3]
    child = os.fork()
    if child == 0:
        os._exit(0 if database[200][1] == VALUES[200] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_lmdb_in_a_single_file_where_nobody_may_write(tmp_path):
    file = (write_lmdb(tmp_path / "db", VALUES) / "data.mdb").rename(tmp_path / "one.mdb")
    file.chmod(0o400)
    assert open_database(file, LMDB)[299][1] == VALUES[299]
    assert [path.name for path in tmp_path.glob("one*")] == ["one.mdb"]


def test_lmdb_that_was_cut_off(tmp_path):
    path = write_lmdb(tmp_path / "db", VALUES)
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"data\.mdb: has \d+ bytes of \d+; it was cut off"):
        open_database(path, LMDB)


def test_lmdb_that_is_none(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 200)
    with pytest.raises(FormatError, match=r"LMDB cannot read it .*MDB_INVALID.*or copy it again"):
        open_database(tmp_path, LMDB)


@both
def test_empty(make, backend):
    with pytest.raises(FormatError, match=r"db: the database is empty; expected records"):
        make(backend, [])


@both
def test_folder_without_a_database(tmp_path, backend):
    with pytest.raises(FormatError, match=r"so it is no L\w+; give the folder of a"):
        open_database(tmp_path, backend)


def test_the_other_backend(tmp_path):
    with pytest.raises(FormatError, match=r"so it is no LevelDB; it is an LMDB; write `backend: LMDB`"):
        open_database(write_lmdb(tmp_path / "a", VALUES), LEVELDB)
    (tmp_path / "CURRENT").touch()
    with pytest.raises(FormatError, match=r"so it is no LMDB; it is a LevelDB; write `backend: LEVELDB`"):
        open_database(tmp_path, LMDB)


def test_leveldb_without_its_package(tmp_path, monkeypatch):
    (tmp_path / "CURRENT").touch()
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(MissingFileError, match=r'pip install "caffe-segnet\[leveldb\]".*convert_imageset'):
        open_database(tmp_path, LEVELDB)


def test_leveldb_that_is_open_elsewhere(tmp_path):
    path = write_leveldb(tmp_path / "db", VALUES)
    plyvel = pytest.importorskip("plyvel")
    with plyvel.DB(str(path)), pytest.raises(FormatError, match=r"LevelDB cannot read it .*end the other program"):
        open_database(path, LEVELDB)
