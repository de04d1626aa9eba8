"""The text files that name images (with label images, a class number or windows in them) or HDF5 files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
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


def read_labelled(path: str | os.PathLike[str], by_words: bool = False) -> list[tuple[str, int]]:
    """The ``(image, class)`` entries of an ImageData list.

    The class stands after the last space of a line, as later forks have it. With ``by_words`` name and class are one
    word after the other, whatever the lines, as the SegNet fork has it; then no name can hold a space.

    Raises:
        FormatError: the list is empty, or entries do not end with a number; every such line is named.
    """
    found: list[tuple[str, int]] = []
    problems = []
    for number, entry in _by_words(path) if by_words else _by_lines(path):
        try:
            name, label = entry
            found.append((name, int(label)))
        except ValueError:
            told = " ".join(entry)[:80]
            problems.append(f"{path}:{number}: found {told!r}; expected an image's name, a space and its class")
    _raise(path, problems, found, "an image and its class")
    return found


def read_fields(
    path: str | os.PathLike[str], fields: Mapping[str, type], holds: Callable[[dict], bool] = bool
) -> list[dict[str, str | int]]:
    """Lines with these fields, words that are text or whole numbers. Words after them and empty lines do not count.

    Raises:
        FormatError: the list is empty, or lines have other words or do not hold; every such line is named.
    """
    found: list[dict[str, str | int]] = []
    problems = []
    expected = ", ".join(name if kind is str else f"{name} (a number)" for name, kind in fields.items())
    for number, line in enumerate(_contents(path).splitlines(), 1):
        words = [os.fsdecode(word) for word in line.split()]
        if not words:
            continue
        try:
            pairs = zip(fields.items(), words[: len(fields)], strict=True)
            entry = {name: kind(word) for (name, kind), word in pairs}
            if not holds(entry):
                raise ValueError
            found.append(entry)
        except ValueError:
            problems.append(f"{path}:{number}: found {' '.join(words)[:80]!r}; expected {expected}")
    _raise(path, problems, found, expected)
    return found


def _by_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Each line, cut at its last space."""
    for number, line in enumerate(_contents(path).splitlines(), 1):
        words = os.fsdecode(line).strip().rsplit(None, 1)
        if words:
            yield number, words


def _by_words(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Two words at a time, with the line of the second; a single last word by itself."""
    entry: list[str] = []
    number = 0
    for number, line in enumerate(_contents(path).splitlines(), 1):
        for word in line.split():
            entry.append(os.fsdecode(word))
            if len(entry) == 2:
                yield number, entry
                entry = []
    if entry:
        yield number, entry


def _raise(path: str | os.PathLike[str], problems: list[str], found: list, expected: str) -> None:
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"{path}: and {len(problems) - _SHOWN} lines more"]
    if problems:
        raise FormatError(problems)
    if not found:
        raise FormatError(f"{path}: the list is empty; expected lines with {expected}")


def read_images(path: str | os.PathLike[str]) -> list[str]:
    """The images of a list of any kind: each line without its last word, where it has more than one.

    Raises:
        FormatError: the list is empty.
    """
    lines = [os.fsdecode(line).strip() for line in _contents(path).splitlines()]
    found = [line.rsplit(None, 1)[0] for line in lines if line]
    if not found:
        raise FormatError(f"{path}: the list is empty; expected lines that begin with an image")
    return found


def _contents(path: str | os.PathLike[str]) -> bytes:
    return Path(path).read_bytes().removeprefix(_BOM)
