"""HDF5 files of unknown origin: opened and read with one clear error for whatever is wrong with them.

A small file can claim arrays of any size, point into other files, and hold groups that contain themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np

from prototxt.errors import CaffeError, FormatError
from prototxt.files import map_file

_EXPANDS = 100
"""How many times larger than the file all its compressed arrays together may be."""
_SMALL = 1 << 26
"""Bytes that the compressed arrays of any file may have together."""


@dataclass
class Met:
    """What was met in a file so far."""

    places: set[int] = field(default_factory=set)
    """The objects, by their address."""
    unpacked: int = 0
    """Bytes that the compressed arrays take."""


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


def members(group: h5py.Group, met: Met) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """What is in a group, by name. ``met`` is one for the whole file: many small claims are a large one.

    Raises:
        FormatError: a member lies in another file, is one that was met before or neither a group nor a dataset; the
            compressed arrays together claim more than the file can hold.
    """
    size = os.path.getsize(group.file.filename)
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise FormatError(f"{group.file.filename}: {group.name}/{name} lies in another file; expected it here")
        member = group[name]
        place = h5py.h5o.get_info(member.id).addr
        if place in met.places:
            raise FormatError(f"{group.file.filename}: {group.name}/{name} is a second name of something; expected one")
        met.places.add(place)
        if not isinstance(member, h5py.Group | h5py.Dataset):
            raise FormatError(f"{group.file.filename}: {group.name}/{name} is a type; expected a group or a dataset")
        if isinstance(member, h5py.Dataset) and _is_packed(member):
            met.unpacked += member.nbytes
            if met.unpacked > max(_SMALL, _EXPANDS * size):
                raise FormatError(
                    f"{group.file.filename}: its compressed arrays take {met.unpacked:,} bytes and more, {size:,} are "
                    "stored; the file is damaged, or not what it seems: copy or download it again"
                )
        yield name, member


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    """All values. Raises FormatError where less is stored than it claims, or stored elsewhere."""
    where = f"{dataset.file.filename}: {dataset.name}"
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{where}: its values lie in another file; expected them here")
    stored = dataset.id.get_storage_size()
    beyond = not _is_packed(dataset) and dataset.nbytes > stored  # ``members`` has looked at the compressed ones
    if beyond or stored > os.path.getsize(dataset.file.filename):
        raise FormatError(
            f"{where}: shape {dataset.shape} takes {dataset.nbytes:,} bytes, {stored:,} are stored; the file is "
            "damaged, or not what it seems: copy or download it again"
        )
    return dataset[()]


def _is_packed(dataset: h5py.Dataset) -> bool:
    return dataset.id.get_create_plist().get_nfilters() > 0
