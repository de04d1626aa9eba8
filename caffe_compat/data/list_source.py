"""A source whose entries are the lines of a list: it finds the list, and the image files that the list names."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from google.protobuf.message import Message

from caffe_compat.data.source import Source
from caffe_compat.data.transform import Transform, check, open_transform
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TransformationParameter
from prototxt.errors import MissingFileError

log = logging.getLogger(__name__)

_SHOWN = 10
_warning = threading.Lock()


class ListSource(Source):
    """Entries that are read from a text file.

    Args:
        param: the layer's own message, with ``source``, ``root_folder`` and ``batch_size``.
        transform_param: for the image; a label keeps its values.
        phase: TRAIN or TEST.
        dialect: of Caffe.
        paths: finds the files; by default relative to the current folder.
        seed, workers, ahead: as in Source.

    Raises:
        LayerError: settings that Caffe refuses; all of them together.
    """

    message: ClassVar[str]
    """The field of the layer that ``param`` stands in."""
    both: ClassVar[tuple[tuple[str, str], ...]] = (("new_height", "new_width"),)
    """Fields of which one alone means nothing."""
    without_effect: ClassVar[tuple[str, ...]] = ()
    """Fields that Caffe does not read here; ``transform_param`` has those of the same names."""
    one_shape = "new_height and new_width, or crop_height and crop_width, or batch_size: 1"

    def __init__(
        self,
        param: Message,
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
        for name in self.without_effect:
            if getattr(param, name) != param.DESCRIPTOR.fields_by_name[name].default_value:
                log.warning(
                    "%s.%s has no effect, as in Caffe; expected it in transform_param { %s: ... }",
                    self.message,
                    name,
                    name,
                )
        self.paths = paths or Paths()
        self._told = False
        shuffle, skip = getattr(param, "shuffle", False), getattr(param, "rand_skip", 0)  # WindowData has neither
        super().__init__(param.batch_size, shuffle=shuffle, rand_skip=skip, seed=seed, workers=workers, ahead=ahead)

    def problems(self) -> list[str]:
        """Everything that is wrong with the settings."""
        found = check(self.transform_param)
        if not self.param.source:
            found.append(f"{self.message} has no source; expected a list of images")
        if not self.param.batch_size:
            found.append(f"{self.message} has no batch_size; expected 1 or more")
        for pair in self.both:
            given = [name for name in pair if getattr(self.param, name)]
            if len(given) == 1:
                (other,) = set(pair) - set(given)
                found.append(f"{self.message} has {given[0]} without {other}; expected both or neither. Add {other}")
        return found

    @property
    @abstractmethod
    def entries(self) -> Sequence:
        """What the list holds."""

    @abstractmethod
    def names(self, entry: object) -> list[str]:
        """The files that an entry names, as they stand there."""

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

    def find(self, entry: object) -> tuple[Path, ...]:
        """The files of an entry, ``root_folder`` being put in front as it is.

        Raises:
            MissingFileError: one is missing; the error counts how many of the list are.
        """
        try:
            return tuple(
                self.paths.resolve(self.param.root_folder + name, self.list_file) for name in self.names(entry)
            )
        except MissingFileError as error:
            root = self.param.root_folder
            names = list(dict.fromkeys(root + name for entry in self.entries for name in self.names(entry)))
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
