"""Data: images with a class, out of a database of Caffe's Datum messages."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from google.protobuf.message import DecodeError

from caffe_compat.data.database import Database, open_database
from caffe_compat.data.images import decode_image
from caffe_compat.data.source import Sample, Source
from caffe_compat.data.transform import Transform, check, open_transform
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import DataParameter, Datum, TransformationParameter
from prototxt.errors import FormatError


class DatumSource(Source):
    """Batches of data ``(N, C, H, W)`` and label ``(N,)``, in the order of the database.

    As a torch dataset: ``(C, H, W)`` float32 and a class.

    Args:
        param: ``data_param``.
        transform_param: for the image.
        phase: TRAIN crops at random, TEST in the middle.
        paths: finds the database; by default relative to the current folder.
        seed, workers, ahead: as in Source.
        labelled: whether the label is put out.

    Raises:
        LayerError: settings that Caffe refuses; all of them together.
    """

    one_shape = "a database of images of one size, transform_param { crop_size: … }, or batch_size: 1"

    def __init__(
        self,
        param: DataParameter,
        transform_param: TransformationParameter,
        phase: int,
        paths: Paths | None = None,
        seed: int | None = None,
        *,
        labelled: bool = True,
        workers: int = 1,
        ahead: int | None = None,
    ) -> None:
        found = check(transform_param)
        if not param.source:
            found.append("data_param has no source; expected the folder of a database")
        if found:
            raise LayerError(found)
        self.param, self.transform_param, self.phase = param, transform_param, phase
        self.paths = paths or Paths()
        self.labelled = labelled
        force_color = transform_param.force_color or param.force_encoded_color
        self._color = True if force_color else False if transform_param.force_gray else None
        super().__init__(param.batch_size, rand_skip=param.rand_skip, seed=seed, workers=workers, ahead=ahead)

    @cached_property
    def database(self) -> Database:
        """Opened when first needed. Raises MissingFileError, FormatError."""
        return open_database(self.folder, self.param.backend)

    @cached_property
    def folder(self) -> Path:
        """Where the database was found. Raises MissingFileError."""
        return self.paths.resolve(self.param.source)

    @cached_property
    def transform(self) -> Transform:
        """What ``transform_param`` asks for, with its mean read."""
        return open_transform(self.transform_param, self.phase, self.paths)

    @property
    def where(self) -> str:
        """The database."""
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.database)

    def prepare(self) -> None:
        """The database and the mean."""
        _ = self.database, self.transform

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """A record by its number."""
        datum, name = self._datum(index)
        try:
            image = self.transform(datum_image(datum, self._color, name), rng)
        except LayerError as error:
            raise LayerError(error.at(name)) from None
        return Sample((image, np.float32(datum.label)) if self.labelled else (image,), (name,))

    def labels(self, index: int, top: int) -> tuple[np.ndarray, Path | str]:
        """The record's label; its image is not decoded."""
        datum, name = self._datum(index)
        return np.array(datum.label), name

    def holds_bytes(self) -> bool:
        """Whether its first record has 8-bit values, 0 to 255: bytes or an image file, not floats."""
        datum = self._datum(0)[0]
        return datum.encoded or bool(datum.data)

    def _datum(self, index: int) -> tuple[Datum, str]:
        """A record, and how it is called in messages."""
        key, value = self.database[index]
        name = f"{self.folder}: record {key!r}"
        try:
            return Datum.FromString(value), name
        except DecodeError as error:
            raise FormatError(f"{name}: not a Datum; expected what convert_imageset writes") from error

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """The label as a class."""
        image, *label = super().as_tensors(sample)
        return image, *(one.long() for one in label)


def datum_image(datum: Datum, color: bool | None = None, name: str = "datum") -> np.ndarray:
    """The image in a Datum: ``(H, W, C)`` or ``(H, W)``, uint8 or float32.

    Args:
        datum: with ``data``, one byte a value, or an image file if it is ``encoded``; or with ``float_data``.
        color: of an encoded image: True for BGR, False for grey, None for what is stored.
        name: for messages.

    Raises:
        FormatError: the values do not fit the shape, or the image file is damaged.
    """
    if datum.encoded:
        return decode_image(datum.data, color, name)
    if datum.data:
        values = np.frombuffer(datum.data, np.uint8)
    else:
        values = np.fromiter(datum.float_data, np.float32, len(datum.float_data))
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or values.size != math.prod(shape):
        raise FormatError(
            f"{name}: holds {values.size} values for the shape {shape} (channels, height, width); expected as many"
        )
    return values.reshape(shape).transpose(1, 2, 0)


def image_datum(image: np.ndarray, label: int = 0) -> Datum:
    """The Datum of an image ``(H, W, C)`` or ``(H, W)``, as convert_imageset writes it: uint8 as bytes, else floats."""
    values = np.atleast_3d(image).transpose(2, 0, 1)
    channels, height, width = values.shape
    datum = Datum(channels=channels, height=height, width=width, label=label, encoded=False)
    if values.dtype == np.uint8:
        datum.data = values.tobytes()
    else:
        datum.float_data.extend(values.ravel())
    return datum
