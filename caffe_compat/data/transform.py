"""What ``transform_param`` asks for, in Caffe's order: crop, mirror, subtract the mean, scale."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TRAIN, BlobProto, TransformationParameter
from prototxt.errors import FormatError, MissingFileError


class Transform:
    """Caffe's DataTransformer for one data layer.

    Args:
        param: of the layer.
        phase: TRAIN crops at random, TEST in the middle. The mirror is drawn in both.
        mean: from ``mean_file``: ``(C, H, W)`` of the size of the images before the crop, or ``(C,)``, one value for
            each channel; see ``load_mean``.

    Raises:
        LayerError: the settings contradict each other.
    """

    def __init__(self, param: TransformationParameter, phase: int, mean: np.ndarray | None = None) -> None:
        problems = check(param)
        if problems:
            raise LayerError(problems)
        self.crop_size = param.crop_size
        self.mirror = param.mirror
        self.random_crop = phase == TRAIN
        self.scale = np.float32(param.scale)
        values = param.mean_value if mean is None or mean.ndim > 1 else mean
        self.mean = None if mean is None or mean.ndim == 1 else mean
        self.mean_values = np.array(values, np.float32).reshape(-1, 1, 1)

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape ``(C, h, w)`` that an image ``(C, H, W)`` comes out with.

        Raises:
            LayerError: the crop is larger than the image, or the mean does not fit it.
        """
        channels, height, width = shape
        if self.crop_size > min(height, width):
            raise LayerError(
                f"crop_size {self.crop_size} is larger than an image of {width}×{height}; "
                f"expected {min(height, width)} at most, or larger images (new_height, new_width)"
            )
        if self.mean is not None and self.mean.shape != shape:
            raise LayerError(
                f"mean_file has the shape {self.mean.shape}, the image {shape} (channels, height, width); expected "
                "the same. Make the mean of images of this size, or give mean_value, one for each channel"
            )
        if len(self.mean_values) not in (0, 1, channels):
            raise LayerError(
                f"{len(self.mean_values)} mean values for an image with {channels} channel(s); "
                f"expected 1 for all or {channels}"
            )
        return (channels, self.crop_size, self.crop_size) if self.crop_size else shape

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One image ``(H, W, C)`` or ``(H, W)`` as float32 ``(C, h, w)``.

        Raises:
            LayerError: the image does not fit the settings.
        """
        planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        size = self.output_shape(planes.shape)[1:]
        rows, columns = crop_place(planes.shape[1:], size, rng if self.random_crop else None)
        mirrored = slice(None, None, -1 if self.mirror and rng.integers(2) else None)
        result = planes[:, rows, columns][:, :, mirrored].astype(np.float32, order="C")
        if self.mean is not None:
            # The mean is taken at the place of the crop and is mirrored with it.
            result -= self.mean[:, rows, columns][:, :, mirrored]
        elif self.mean_values.size:
            result -= self.mean_values
        if self.scale != 1:
            result *= self.scale
        return result


def open_transform(param: TransformationParameter, phase: int, paths: Paths) -> Transform:
    """The transform of a layer, with its ``mean_file`` found and read. Raises as ``Transform`` and ``load_mean``."""
    mean = load_mean(paths.resolve(param.mean_file)) if param.mean_file else None
    return Transform(param, phase, mean)


def check(param: TransformationParameter) -> list[str]:
    """What contradicts itself in the settings (Caffe stops at each)."""
    problems = []
    if param.mean_file and param.mean_value:
        problems.append("transform_param has both mean_file and mean_value; expected one of them. Take the other out")
    if param.force_color and param.force_gray:
        problems.append("transform_param has both force_color and force_gray; expected one of them at most")
    return problems


def crop_of(param: TransformationParameter) -> tuple[int, int] | None:
    """The size (h, w) of the crop, square or not."""
    if param.crop_size:
        return param.crop_size, param.crop_size
    if param.crop_height and param.crop_width:
        return param.crop_height, param.crop_width
    return None


def crop_place(size: tuple[int, int], crop: tuple[int, int], rng: np.random.Generator | None) -> tuple[slice, slice]:
    """Rows and columns of a crop ``(h, w)`` out of ``(H, W)``: anywhere with a generator, else the middle."""
    rooms = [whole - part for whole, part in zip(size, crop, strict=True)]
    top, left = (int(rng.integers(room + 1)) if rng else room // 2 for room in rooms)
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def load_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """A mean image ``(C, H, W)`` in float32, as ``compute_image_mean`` writes it (``.binaryproto``).

    A ``.npy`` file, which pycaffe's users keep means in, may also hold ``(1, C, H, W)``, or ``(C,)`` for one value in
    each channel.

    Raises:
        FormatError: the file is no such image.
        LayerError: it holds another number than one image.
    """
    if os.fspath(path).lower().endswith(".npy"):
        return _load_mean_array(path)
    try:
        blob = BlobProto.FromString(Path(path).read_bytes())
    except IsADirectoryError:
        raise MissingFileError(f"{os.fspath(path)!r} is a folder; expected a mean image (.binaryproto)") from None
    except FileNotFoundError:
        raise MissingFileError(f"{os.fspath(path)!r} does not exist; expected a mean image (.binaryproto)") from None
    except DecodeError as error:
        raise FormatError(f"{path}: not a mean image (.binaryproto) as compute_image_mean writes it") from error
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    values = np.array(blob.data or blob.double_data, np.float32)
    if values.size != math.prod(shape) or min(shape, default=0) < 0:
        raise FormatError(f"{path}: holds {values.size} values for the shape {shape}; the file is damaged")
    mean = values.reshape(shape)
    if mean.ndim != 4 or mean.shape[0] != 1:
        raise LayerError(f"{path}: holds a blob of shape {mean.shape}; expected one image (1, channels, height, width)")
    return mean[0]


def _load_mean_array(path: str | os.PathLike[str]) -> np.ndarray:
    try:
        mean = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise MissingFileError(f"{os.fspath(path)!r} does not exist; expected a mean (.npy)") from None
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise FormatError(f"{path}: not a .npy file: {error}") from error
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim not in (1, 3) or mean.dtype.kind not in "uif":
        raise LayerError(
            f"{path}: holds an array of shape {mean.shape} and type {mean.dtype}; expected numbers of shape (channels, "
            "height, width) or (channels,)"
        )
    return mean.astype(np.float32)
