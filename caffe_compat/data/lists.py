"""The text files that name images (with a label image or a class number each) or HDF5 files."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from prototxt.errors import FormatError

log = logging.getLogger(__name__)

_SHOWN = 10
_BOM = b"\xef\xbb\xbf"


def read_pairs(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The ``(image, label image)`` names of a DenseImageData list.

    Caffe takes one word after the other, whatever the lines: no name can hold a space, and an odd last word is
    dropped, which is logged.

    Raises:
        FormatError: the list names no pair.
    """
    data = _contents(path)
    words = [os.fsdecode(word) for word in data.split()]
    if len(words) % 2:
        odd = [number for number, line in enumerate(data.split(b"\n"), 1) if len(line.split()) % 2]
        log.warning(
            "%s:%d: the list holds an odd number of words, so the last one, %r, is dropped, and from this line on "
            "images and labels may be exchanged; expected an image and its label on each line, without spaces in "
            "their names",
            path,
            odd[0],
            words[-1],
        )
    if len(words) < 2:
        raise FormatError(f"{path}: the list is empty; expected lines with an image and its label image")
    return list(zip(words[::2], words[1::2], strict=False))


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """The file names of an HDF5Data list: one word after the other, so that none can hold a space.

    Raises:
        FormatError: the list is empty.
    """
    names = [os.fsdecode(word) for word in _contents(path).split()]
    if not names:
        raise FormatError(f"{path}: the list is empty; expected the name of an HDF5 file on each line")
    return names


def read_labelled(path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """The ``(image, class)`` lines of an ImageData list; the class stands after the last space.

    Raises:
        FormatError: the list is empty, or lines do not end with a number; every such line is named.
    """
    found: list[tuple[str, int]] = []
    problems = []
    for number, line in enumerate(_contents(path).splitlines(), 1):
        words = os.fsdecode(line).strip().rsplit(None, 1)
        if not words:
            continue
        try:
            name, label = words
            found.append((name, int(label)))
        except ValueError:
            problems.append(f"{path}:{number}: found {line[:80]!r}; expected an image's name, a space and its class")
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"{path}: and {len(problems) - _SHOWN} lines more"]
    if problems:
        raise FormatError(problems)
    if not found:
        raise FormatError(f"{path}: the list is empty; expected lines with an image and its class")
    return found


def _contents(path: str | os.PathLike[str]) -> bytes:
    return Path(path).read_bytes().removeprefix(_BOM)
