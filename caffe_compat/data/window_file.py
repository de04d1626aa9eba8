"""The window files of R-CNN: images, and the windows in each with their class and overlap."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from prototxt.errors import FormatError

_COLUMNS = 6  # class overlap x1 y1 x2 y2
_LIMIT = 2**31


class Windows(NamedTuple):
    """What a window file holds; one row for each window."""

    images: list[str]
    image: np.ndarray
    """(n,): which image."""
    label: np.ndarray
    """(n,)"""
    overlap: np.ndarray
    """(n,)"""
    box: np.ndarray
    """(n, 4): x1 y1 x2 y2, both ends included."""


def read_windows(path: str | os.PathLike[str]) -> Windows:
    """A window file: for each image ``# index name channels height width count`` and ``count`` times
    ``class overlap x1 y1 x2 y2``, words one after the other.

    Raises:
        FormatError: something else stands there.
    """
    with open(path, "rb") as file:
        return _Reader(path, file).windows()


class _Reader:
    """Takes words from lines, and knows where they stood."""

    def __init__(self, path: str | os.PathLike[str], lines: Iterable[bytes]) -> None:
        self.path = path
        self.lines = enumerate(lines, 1)
        self.words: list[bytes] = []
        self.numbers: list[int] = []
        self.taken = 0

    def windows(self) -> Windows:
        images: list[str] = []
        tables = []
        while first := self.take(1, ends=True):
            if first[0] != b"#":
                raise self.error(0, first[0], f"'# {len(images)}', the beginning of an image")
            index, name, *_, count = self.take(6)
            for place, word in ((0, index), (5, count)):
                if not word.isdigit():
                    raise self.error(place, word, "a number")
            if int(index) != len(images):
                raise self.error(0, index, f"{len(images)}, as images are numbered from 0 on")
            images.append(os.fsdecode(name))
            tables.append(self.table(int(count)))
        if not images:
            raise FormatError(f"{self.path}: the window file is empty; expected '# 0' and the windows of an image")
        image = np.repeat(np.arange(len(images), dtype=np.int32), [len(table) for table in tables])
        table = np.concatenate(tables)
        label, overlap, box = table[:, 0].astype(np.int32), table[:, 1].astype(np.float32), table[:, 2:]
        return Windows(images, image, label, overlap, box.astype(np.int32))

    def table(self, count: int) -> np.ndarray:
        words = self.take(_COLUMNS * count)
        with suppress(ValueError):
            table = np.array(words).astype(np.float64).reshape(count, _COLUMNS)
            if (np.abs(table) < _LIMIT).all():
                return table
        wrong = next(place for place, word in enumerate(words) if not _is_number(word))
        raise self.error(wrong, words[wrong], "a number of 'class overlap x1 y1 x2 y2'")

    def take(self, count: int, ends: bool = False) -> list[bytes]:
        """The next words. The list may end here, or that is an error."""
        del self.words[: self.taken], self.numbers[: self.taken]
        self.taken = count
        for number, line in self.lines if len(self.words) < count else ():
            new = line.split()
            self.words += new
            self.numbers += [number] * len(new)
            if len(self.words) >= count:
                break
        if len(self.words) < count and not (ends and not self.words):
            raise FormatError(f"{self.path}: ends within an image; expected {count - len(self.words)} words more")
        return self.words[:count]

    def error(self, place: int, word: bytes, expected: str) -> FormatError:
        return FormatError(f"{self.path}:{self.numbers[place]}: found {os.fsdecode(word)!r}; expected {expected}")


def _is_number(word: bytes) -> bool:
    with suppress(ValueError):
        return abs(float(word)) < _LIMIT
    return False
