"""HDF5 files of unknown origin: opened and read with one clear error for whatever is wrong with them.

A small file can claim arrays of any size, point into other files, and hold groups that contain themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np

from prototxt.errors import CaffeError, FormatError
from prototxt.files import map_file

_EXPANDS = 100
"""How many times larger than what is stored a compressed array may be."""
_SMALL = 1 << 26
"""Bytes that any compressed array may have."""


@contextmanager
def opened(path: str | os.PathLike[str], remedy: str) -> Iterator[h5py.File]:
    """The file, to be read. Raises MissingFileError; FormatError for whatever HDF5 or the block trips over."""
    map_file(path)  # says what is wrong with the path better than HDF5
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CaffeError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise FormatError(f"{path}: HDF5 cannot read it ({error}); {remedy}") from error


def members(group: h5py.Group, seen: set[int]) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """What is in a group, by name. ``seen`` gathers the objects met in the whole file.

    Raises:
        FormatError: a member lies in another file, or is one that was met before.
    """
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise FormatError(f"{group.file.filename}: {group.name}/{name} lies in another file; expected it here")
        member = group[name]
        place = h5py.h5o.get_info(member.id).addr
        if place in seen:
            raise FormatError(f"{group.file.filename}: {group.name}/{name} is a second name of something; expected one")
        seen.add(place)
        yield name, member


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    """All values. Raises FormatError where less is stored than it claims, or stored elsewhere."""
    where = f"{dataset.file.filename}: {dataset.name}"
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{where}: its values lie in another file; expected them here")
    stored = dataset.id.get_storage_size()
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    most = max(_SMALL, _EXPANDS * stored) if packed else stored
    if dataset.nbytes > most or stored > os.path.getsize(dataset.file.filename):
        raise FormatError(
            f"{where}: shape {dataset.shape} takes {dataset.nbytes:,} bytes, {stored:,} are stored; the file is "
            "damaged, or not what it seems: copy or download it again"
        )
    return dataset[()]
