"""A source whose entries are the lines of a list: it finds the list, and the image files that the list names."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from caffe_compat.data.source import Source
from caffe_compat.data.transform import Transform, open_transform
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TransformationParameter
from prototxt.errors import MissingFileError

log = logging.getLogger(__name__)

_SHOWN = 10
_warning = threading.Lock()


class ListParameter(Protocol):
    """What the messages of all layers with a list have."""

    source: str
    root_folder: str
    batch_size: int
    rand_skip: int
    shuffle: bool


class ListSource(Source):
    """Entries that are read from a text file.

    Args:
        param: the layer's own message.
        transform_param: for the image; a label keeps its values.
        phase: TRAIN or TEST.
        dialect: of Caffe.
        paths: finds the files; by default relative to the current folder.
        seed, workers, ahead: as in Source.

    Raises:
        LayerError: settings that Caffe refuses; all of them together.
    """

    one_shape = "new_height and new_width, or crop_height and crop_width, or batch_size: 1"

    def __init__(
        self,
        param: ListParameter,
        transform_param: TransformationParameter,
        phase: int,
        dialect: str = "segnet",
        paths: Paths | None = None,
        seed: int | None = None,
        *,
        workers: int = 1,
        ahead: int | None = None,
    ) -> None:
        self.param, self.transform_param = param, transform_param
        self.phase, self.dialect = phase, dialect
        found = self.problems()
        if found:
            raise LayerError(found)
        self.paths = paths or Paths()
        self._told = False
        shuffle, skip = param.shuffle, param.rand_skip
        super().__init__(param.batch_size, shuffle=shuffle, rand_skip=skip, seed=seed, workers=workers, ahead=ahead)

    @abstractmethod
    def problems(self) -> list[str]:
        """Everything that is wrong with the settings."""

    @property
    @abstractmethod
    def entries(self) -> list[tuple]:
        """What the list holds."""

    @abstractmethod
    def file_names(self, entry: tuple) -> tuple[str, ...]:
        """The files that an entry names, with ``root_folder`` in front as it is."""

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def list_file(self) -> Path:
        """Where the list was found. Raises MissingFileError."""
        return self.paths.resolve(self.param.source)

    @property
    def where(self) -> str:
        """The list."""
        return str(self.list_file)

    @cached_property
    def transform(self) -> Transform:
        """What ``transform_param`` asks for, with its mean read."""
        return open_transform(self.transform_param, self.phase, self.paths)

    def prepare(self) -> None:
        """The list and the mean."""
        _ = self.entries, self.transform

    def find(self, entry: tuple) -> tuple[Path, ...]:
        """The files of an entry.

        Raises:
            MissingFileError: one is missing; the error counts how many of the list are.
        """
        names = self.file_names(entry)
        try:
            return tuple(self.paths.resolve(name, self.list_file) for name in names)
        except MissingFileError as error:
            names = [name for entry in self.entries for name in self.file_names(entry)]
            raise MissingFileError([str(error), count_missing(names, self.list_file, self.paths)]) from None

    def tell_doubt(self, label: Path, doubt: str) -> None:
        """Say once why the values of the labels are doubtful; see ``images.read_label``."""
        with _warning:
            if self._told:
                return
            self._told = True
        log.warning(
            "%s: the label %s is %s, as in Caffe. Expected an 8-bit grey image whose values are the classes. From a "
            "palette image one is made with Pillow by `Image.fromarray(numpy.array(Image.open(f))).save(f)`, from "
            "colours by looking up the class of each",
            self.list_file,
            label,
            doubt,
        )


def count_missing(names: Sequence[str], list_file: Path, paths: Paths) -> str:
    """How many of the files that a list names are not there, and which."""
    missing = paths.missing(names, list_file)
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"{list_file}: {len(missing)} of the {len(names)} files it names are missing: "
        f"{', '.join(missing[:_SHOWN])}{more}"
    )
