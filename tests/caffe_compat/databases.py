"""Small databases for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import lmdb
import numpy as np
import pytest

from prototxt.caffe_pb2 import DataParameter, Datum


def keyed(values: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The records with keys as convert_imageset makes them."""
    return [(b"%08d_im" % number, value) for number, value in enumerate(values)]


def write_lmdb(path: Path, values: Iterable[bytes]) -> Path:
    """An LMDB with these records."""
    with lmdb.open(str(path), map_size=1 << 26) as env, env.begin(write=True) as transaction:
        for key, value in keyed(values):
            transaction.put(key, value)
    return path


def write_leveldb(path: Path, values: Iterable[bytes]) -> Path:
    """A LevelDB with these records. Skips the test where the package is not there."""
    plyvel = pytest.importorskip("plyvel", reason="needs plyvel, the optional extra leveldb")
    with plyvel.DB(str(path), create_if_missing=True) as database:
        for key, value in keyed(values):
            database.put(key, value)
    return path


WRITERS = {DataParameter.LMDB: write_lmdb, DataParameter.LEVELDB: write_leveldb}


def datum(values: np.ndarray, label: int = 0) -> bytes:
    """A Datum of an image (C, H, W): bytes, or floats."""
    channels, height, width = values.shape
    held = {"data": values.tobytes()} if values.dtype == np.uint8 else {"float_data": values.ravel().tolist()}
    return Datum(channels=channels, height=height, width=width, label=label, **held).SerializeToString()
