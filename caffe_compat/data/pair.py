"""One image with its label image: read, resized, mirrored, cropped and transformed, both alike."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffe_compat.data import resize
from caffe_compat.data.images import read_image, read_label
from caffe_compat.data.transform import Transform, crop_place
from caffe_compat.errors import LayerError
from prototxt.caffe_pb2 import DenseImageDataParameter, TransformationParameter

_CROP = "crop_height: … crop_width: …"
_ONLY_THE_IMAGE = {"mirror": "mirror: true", "crop_size": _CROP, "crop_height": _CROP, "crop_width": _CROP}


class Files(NamedTuple):
    """Where the two images of a pair were found."""

    image: Path
    label: Path


class Pair(NamedTuple):
    """A pair as Caffe's layer puts it out."""

    data: np.ndarray
    """``(C, H, W)`` float32."""
    label: np.ndarray
    """``(1, h, w)`` float32, as large as the data unless ``label_divide_factor`` says otherwise."""
    files: Files
    doubt: str
    """Why the label's values are doubtful; see ``images.read_label``."""


class PairReader:
    """Reads pairs as ``dense_image_data_param`` and ``transform_param`` say.

    Mirror and crop are drawn in both phases, as in Caffe.
    """

    def __init__(self, param: DenseImageDataParameter, transform: Transform) -> None:
        self.param = param
        self.transform = transform

    def __call__(self, files: Files, rng: np.random.Generator) -> Pair:
        """Read a pair; ``rng`` draws its mirror and crop.

        Raises:
            MissingFileError, FormatError: a file cannot be read.
            LayerError: the images do not fit each other or the settings.
        """
        image = read_image(files.image, self.param.is_color)
        label, doubt = read_label(files.label)
        image, label = self._resized(image, label, files)
        if self.param.mirror and rng.integers(2):
            image, label = image[:, ::-1], label[:, ::-1]
        if self.param.crop_height:
            image, label = self._cropped(image, label, files, rng)
        try:
            data = self.transform(image, rng)
        except LayerError as error:
            raise LayerError(error.at(str(files.image))) from None
        return Pair(data, label[None].astype(np.float32, order="C"), files, doubt)

    def _resized(self, image: np.ndarray, label: np.ndarray, files: Files) -> tuple[np.ndarray, np.ndarray]:
        height, width, factor = self.param.new_height, self.param.new_width, self.param.label_divide_factor
        if height:
            return resize.bilinear(image, height, width), resize.nearest(label, height // factor, width // factor)
        if image.shape[:2] != label.shape:
            raise LayerError(
                f"{files.image} is {_size(image)} and its label {files.label} {_size(label)} (width×height); expected "
                "one size. Mend the label image, or give new_height and new_width for both"
            )
        return image, label

    def _cropped(
        self, image: np.ndarray, label: np.ndarray, files: Files, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        height, width = self.param.crop_height, self.param.crop_width
        if height > image.shape[0] or width > image.shape[1]:
            raise LayerError(
                f"crop_width×crop_height {width}×{height} is larger than {files.image} with {_size(image)}; expected a "
                "part of it. Crop less, or give new_height and new_width"
            )
        place = crop_place(image.shape[:2], (height, width), rng)
        return image[place], label[place]


def problems(param: DenseImageDataParameter, transform: TransformationParameter, dialect: str) -> list[str]:
    """Settings of the labels that Caffe refuses, or that would tear image and label apart."""
    found = _label_factor_problems(param)
    reason = "mirrors or crops image and label independently" if dialect == "enet" else "stops"
    for field, instead in _ONLY_THE_IMAGE.items():
        if getattr(transform, field):
            found.append(
                f"transform_param.{field} reaches the image and not its label (Caffe {reason}); expected it in "
                f"dense_image_data_param {{ {instead} }}, which treats both alike"
            )
    return found


def _label_factor_problems(param: DenseImageDataParameter) -> list[str]:
    factor = param.label_divide_factor
    if factor == 1:
        return []
    if not (param.new_height and param.new_width):
        return [f"label_divide_factor {factor} needs new_height and new_width, of which it is a part; give both"]
    if not 1 <= factor <= min(param.new_height, param.new_width):
        return [
            f"label_divide_factor is {factor}; expected 1 to {min(param.new_height, param.new_width)}, so that labels "
            f"for images of {param.new_width}×{param.new_height} keep a size"
        ]
    if param.crop_height or param.crop_width:
        return [f"label_divide_factor {factor} cannot go with a crop; take one of them out"]
    return []


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
