"""Where a file that a prototxt or a list names really lies.

Model files were written for other disks (``/SegNet/CamVid/train.txt``), and the lists they name hold such paths
again. A name is looked for, in this order:

1. as it is, a relative one below the current folder, as Caffe does;
2. with its longest leading part replaced as asked for (``--root OLD=NEW``);
3. the same with the pairs in the environment variable ``CAFFE_ROOT_MAP``, separated as in ``PATH``;
4. a relative name below the folder of the prototxt, then below that of the list file it was read from;
5. without its leading folders, one after the other, below the folders of the list file and of the prototxt and below
   the current one: ``/SegNet/CamVid/train.txt`` is ``CamVid/train.txt``, then ``train.txt``.

Only whole folder names are compared: ``/SegNet`` does not stand for the beginning of ``/SegNet2/train.txt``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

from prototxt.errors import CaffeError, MissingFileError

log = logging.getLogger(__name__)

ROOT_MAP = "CAFFE_ROOT_MAP"

Roots = list[tuple[PurePath, str]]


class Paths:
    """Finds the files that one prototxt names.

    Args:
        prototxt: the file that the names come from, if there is one.
        roots: ``(OLD, NEW)`` pairs; the longest OLD that fits goes first.
    """

    def __init__(
        self,
        prototxt: str | os.PathLike[str] | None = None,
        roots: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        self.prototxt = None if prototxt is None else Path(prototxt).absolute()
        self._roots = _longest_first(roots.items() if isinstance(roots, Mapping) else roots)
        self._folders: dict[str, bool] = {}
        self._told: set[tuple[str, str]] = set()

    def resolve(self, name: str | os.PathLike[str], list_file: str | os.PathLike[str] | None = None) -> Path:
        """The file (or folder) that a name stands for.

        Args:
            name: as it stands in the prototxt or in the list.
            list_file: the list that the name was read from, where it was found.

        Raises:
            MissingFileError: it is in none of the places; the error names them all.
        """
        name = os.fspath(name)
        # Hundreds of names share a few folders. Which of these exist is remembered, and asked again before giving up.
        for _ in range(2):
            if found := self._find(name, list_file):
                self._tell(name, *found)
                return Path(found[0])
            self._folders.clear()
        tried = dict.fromkeys(place for place, _ in self._places(name, list_file))
        raise MissingFileError(
            f"{name!r} does not exist; looked for it as\n"
            + "".join(f"    {place}\n" for place in tried)
            + _remedy(name)
        )

    def missing(self, names: Iterable[str], list_file: str | os.PathLike[str] | None = None) -> list[str]:
        """Those of the names that stand for nothing, each once."""
        return [name for name in dict.fromkeys(names) if not self._find(name, list_file)]

    def resolve_output(self, prefix: str | os.PathLike[str]) -> str:
        """Where something named by a prototxt (``snapshot_prefix``) is written; its folder is created.

        The longest OLD of ``--root``, then of ``CAFFE_ROOT_MAP``, decides, and otherwise the name is taken as it is.

        Raises:
            CaffeError: the folder cannot be created.
        """
        prefix = os.fspath(prefix)
        place, rule = next(self._mapped(prefix), (prefix, ""))
        if prefix.endswith("/"):
            place = os.path.join(place, "")
        folder = os.path.dirname(place)
        try:
            os.makedirs(folder or ".", exist_ok=True)
        except OSError as error:
            raise CaffeError(
                f"{prefix!r}: the folder {folder!r} cannot be created ({error.strerror}). Write elsewhere with "
                f"`--root {_first_folder(prefix)}=FOLDER` or with the environment variable "
                f"{ROOT_MAP}={_first_folder(prefix)}=FOLDER"
            ) from error
        self._tell(prefix, place, rule)
        return place

    def _find(self, name: str, list_file: str | os.PathLike[str] | None) -> tuple[str, str] | None:
        return next((found for found in self._places(name, list_file) if self._exists(found[0])), None)

    def _places(self, name: str, list_file: str | os.PathLike[str] | None) -> Iterator[tuple[str, str]]:
        """Every place to look at, in order, each with the rule that leads there."""
        yield name, ""
        yield from self._mapped(name)
        by_prototxt = [(str(self.prototxt.parent), "the folder of the prototxt")] if self.prototxt else []
        by_list = [(os.path.dirname(list_file) or ".", "the folder of the list file")] if list_file else []
        parts = PurePath(name).parts
        if os.path.isabs(name):
            tails = [parts[i:] for i in range(1, len(parts))]
        else:
            yield from ((os.path.join(folder, name), rule) for folder, rule in by_prototxt + by_list)
            tails = [parts[i:] for i in range(1, len(parts)) if parts[i] != ".."]
        for tail in tails:
            for folder, rule in [*by_list, *by_prototxt, (".", "the current folder")]:
                yield os.path.normpath(os.path.join(folder, *tail)), f"{rule}, without {parts[-len(tail) - 1]!r}"

    def _mapped(self, name: str) -> Iterator[tuple[str, str]]:
        parts = PurePath(name).parts
        for roots, rule in ((self._roots, "--root"), (_environment_roots(), ROOT_MAP)):
            for old, new in roots:
                if parts[: len(old.parts)] == old.parts:
                    yield os.path.join(new, *parts[len(old.parts) :]), rule

    def _exists(self, place: str) -> bool:
        folder = os.path.abspath(os.path.dirname(place))
        if folder not in self._folders:
            self._folders[folder] = os.path.isdir(folder)
        return self._folders[folder] and os.path.exists(place)

    def _tell(self, name: str, place: str, rule: str) -> None:
        pair = os.path.dirname(name), os.path.dirname(place)
        if rule and pair not in self._told:
            self._told.add(pair)
            log.info("%s is taken from %s (%s)", name, place, rule)


def parse_root(text: str) -> tuple[str, str]:
    """``OLD=NEW`` as a pair.

    Raises:
        CaffeError: it is not of this form.
    """
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise CaffeError(f"{text!r} does not say which folder stands for which; expected OLD=NEW, as in /SegNet=/data")
    return old, new


def _longest_first(pairs: Iterable[tuple[str, str]]) -> Roots:
    roots = [(PurePath(old), os.path.expanduser(new)) for old, new in pairs]
    return sorted(roots, key=lambda root: -len(root[0].parts))


def _environment_roots() -> Roots:
    pairs = [pair for pair in os.environ.get(ROOT_MAP, "").split(os.pathsep) if pair]
    try:
        return _longest_first(map(parse_root, pairs))
    except CaffeError as error:
        raise CaffeError(f"environment variable {ROOT_MAP}: {error}") from None


def _remedy(name: str) -> str:
    folder = _first_folder(name)
    if folder == ".":
        return "Put it in one of these places"
    return (
        f"Say where it lies with `--root {folder}=FOLDER` or with the environment variable {ROOT_MAP}={folder}=FOLDER"
    )


def _first_folder(name: str) -> str:
    """What somebody would most likely map: ``/SegNet`` of ``/SegNet/CamVid/train.txt``."""
    parts = PurePath(name).parts
    first = parts[: 2 if os.path.isabs(name) else 1]
    return str(PurePath(*first)) if len(parts) > len(first) else os.path.dirname(name) or "."
