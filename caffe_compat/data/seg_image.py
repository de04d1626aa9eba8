"""ImageSegData and the window layers of DeconvNet: images with a label image, whole or cut to a window."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from caffe_compat.data import lists, resize
from caffe_compat.data.images import read_image, read_label
from caffe_compat.data.list_source import ListSource
from caffe_compat.data.seg_transform import SegTransform, problems
from caffe_compat.data.source import Sample
from caffe_compat.errors import LayerError
from prototxt.caffe_pb2 import ImageDataParameter
from prototxt.errors import FormatError

log = logging.getLogger(__name__)

Line = dict[str, str | int]
_WINDOW = {"x1": int, "y1": int, "x2": int, "y2": int}


class ImageSegSource(ListSource):
    """Batches of data ``(N, C, H, W)``, label ``(N, 1, H, W)`` and size ``(N, 1, 1, 2)``.

    ``label_type`` says what stands beside an image in the list: a label image (PIXEL), a number for all of its pixels
    (IMAGE) or nothing (NONE; every pixel has ``ignore_label``). The size is that of the image (height, width), as far
    as it is not beyond the crop. As a torch dataset: ``(C, H, W)`` float32 and ``(H, W)`` int64.
    """

    message = "image_data_param"
    without_effect = ("scale", "mean_file", "crop_size", "mirror")
    layer_type: ClassVar[str] = "ImageSegData"
    one_shape = "new_height and new_width, or crop_size, or batch_size: 1"

    def problems(self) -> list[str]:
        """Settings that Caffe refuses."""
        return super().problems() + problems(self.transform_param, self.layer_type)

    @cached_property
    def transform(self) -> SegTransform:
        """Of image and label together."""
        return SegTransform(self.transform_param, self.phase, self._ignored)

    @property
    def _ignored(self) -> int:
        return _eight_bits(self.param.ignore_label)

    def fields(self) -> dict[str, type]:
        """The words of a line."""
        kinds = {ImageDataParameter.PIXEL: {"label": str}, ImageDataParameter.IMAGE: {"label": int}}
        return {"image": str, **kinds.get(self.param.label_type, {})}

    @staticmethod
    def holds(line: Line) -> bool:
        """Whether the numbers of a line fit each other."""
        return True

    @cached_property
    def entries(self) -> list[Line]:
        """The lines of the list."""
        try:
            lines = lists.read_fields(self.list_file, self.fields(), self.holds)
        except FormatError as error:
            if self.param.label_type != ImageDataParameter.IMAGE:
                raise
            raise FormatError(error.problems, "Label images are read with `label_type: PIXEL`") from None
        log.info("%s: %d lines", self.list_file, len(lines))
        return lines

    def names(self, entry: Line) -> list[str]:
        """The image and its label image."""
        return [entry["image"]] + ([entry["label"]] if self.param.label_type == ImageDataParameter.PIXEL else [])

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """An image and its label by their place in the list."""
        line = self.entries[index]
        files = self.find(line)
        whole = read_image(files[0], self.param.is_color)
        image, label = self.fitted(whole, self.label(line, files, whole), line, files)
        try:
            data, label = self.transform(image, label, rng)
        except LayerError as error:
            raise LayerError(error.at(str(files[0]))) from None
        size = np.minimum(data.shape[1:], self.counted(whole, image).shape[:2]).astype(np.float32)
        files = files[:2]
        return Sample((data, self.label_top(label, files[-1]), size.reshape(1, 1, 2)), files)

    def label(self, line: Line, files: tuple[Path, ...], image: np.ndarray) -> np.ndarray:
        """The label ``(H, W)`` of the whole image."""
        if self.param.label_type != ImageDataParameter.PIXEL:
            return np.full(image.shape[:2], _eight_bits(line.get("label", self._ignored)), np.uint8)
        label, doubt = read_label(files[1])
        if doubt:
            self.tell_doubt(files[1], doubt)
        return label

    def fitted(
        self, image: np.ndarray, label: np.ndarray, line: Line, files: tuple[Path, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both in the size that the message asks for."""
        height, width = self.param.new_height, self.param.new_width
        if height:
            return resize.bilinear(image, height, width), self.resized_label(label, height, width)
        _same_size(image, label, files, ", or give new_height and new_width for both")
        return image, label

    def resized_label(self, label: np.ndarray, height: int, width: int) -> np.ndarray:
        """DeepLab blends the classes of neighbouring pixels here; DeconvNet does not."""
        return (resize.bilinear if self.dialect == "deeplab" else resize.nearest)(label, height, width)

    def counted(self, whole: np.ndarray, fitted: np.ndarray) -> np.ndarray:
        """The image whose size is put out."""
        return fitted

    def label_top(self, label: np.ndarray, file: Path) -> np.ndarray:
        """What is put out for a label ``(1, H, W)``."""
        return label

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """Image and label, the label as classes."""
        data, label, _ = super().as_tensors(sample)
        return data, label[0].long()


class WindowSegSource(ImageSegSource):
    """Windows ``x1 y1 x2 y2`` (both ends included) cut out and resized; what lies outside the image is black.

    The size that is put out is that of the whole image.
    """

    layer_type = "WindowSegData"

    def fields(self) -> dict[str, type]:
        """The window stands behind the label."""
        return super().fields() | _WINDOW

    @staticmethod
    def holds(line: Line) -> bool:
        """The window is not empty."""
        return line["x1"] <= line["x2"] and line["y1"] <= line["y2"]

    def fitted(
        self, image: np.ndarray, label: np.ndarray, line: Line, files: tuple[Path, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The window, in the size that the message asks for."""
        _same_size(image, label, files)
        box = [line[name] for name in _WINDOW]
        image, label = _cut(image, box, 0), _cut(label, box, self._ignored)
        if self.param.new_height:
            size = self.param.new_height, self.param.new_width
            image, label = resize.bilinear(image, *size), resize.nearest(label, *size)
        return image, label

    def counted(self, whole: np.ndarray, fitted: np.ndarray) -> np.ndarray:
        """The whole image."""
        return whole


class WindowInstSegSource(WindowSegSource):
    """Windows around one object each, with a third image that numbers the objects.

    Pixels of other objects get ``other_object_label``; those numbered 0 or ``ignore_label`` keep their class.
    """

    layer_type = "WindowInstSegData"

    def fields(self) -> dict[str, type]:
        """``image label objects x1 y1 x2 y2 object``; without labels no objects either."""
        kinds = super().fields()
        objects = {"objects": str} if "label" in kinds else {}
        return {name: kinds[name] for name in ("image", "label") if name in kinds} | objects | _WINDOW | {"object": int}

    def names(self, entry: Line) -> list[str]:
        """Image, label image and the image of the objects."""
        names = super().names(entry)
        return [*names, entry["objects"]] if len(names) > 1 else names

    def label(self, line: Line, files: tuple[Path, ...], image: np.ndarray) -> np.ndarray:
        """The label of the one object."""
        label = super().label(line, files[:2], image)
        if self.param.label_type != ImageDataParameter.PIXEL:
            return label
        objects = read_label(files[2])[0]
        _same_size(label, objects, files[1:])
        others = ~np.isin(objects, [0, line["object"], self.param.ignore_label])
        return np.where(others, _eight_bits(self.param.other_object_label), label).astype(label.dtype)


class WindowSegBinarySource(WindowSegSource):
    """Windows whose label is 1 for every class but 0 and 255."""

    layer_type = "WindowSegBinary"

    def fitted(
        self, image: np.ndarray, label: np.ndarray, line: Line, files: tuple[Path, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The window, with two classes."""
        image, label = super().fitted(image, label, line, files)
        return image, np.where((label > 0) & (label < 255), 1, label).astype(label.dtype)


class WindowClsSource(WindowSegSource):
    """Windows with the classes that occur in them: class c sets entry c - 1 of ``(N, label_dim, 1, 1)``.

    0 and 255 are no classes. As a torch dataset: ``(C, H, W)`` and ``(label_dim,)``, float32.
    """

    layer_type = "WindowClsData"

    def __init__(self, *settings: object, label_dim: int = 1, **options: object) -> None:
        super().__init__(*settings, **options)
        self.label_dim = label_dim

    def label_top(self, label: np.ndarray, file: Path) -> np.ndarray:
        """1 for every class that occurs."""
        classes = np.unique(label).astype(int)
        classes = classes[(classes != 0) & (classes != 255)]
        if classes.size and not 0 < classes.min() <= classes.max() <= self.label_dim:
            raise LayerError(
                f"{file}: holds the classes {', '.join(map(str, classes))}; expected 1 to {self.label_dim}. "
                f"Set window_cls_data_param {{ label_dim: {classes.max()} }}, or mend the label image"
            )
        top = np.zeros((self.label_dim, 1, 1), np.float32)
        top[classes - 1] = 1
        return top

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """Image and classes."""
        data, label, _ = sample.blobs
        return torch.from_numpy(data), torch.from_numpy(label[:, 0, 0])


def _eight_bits(value: int) -> int:
    """A class as OpenCV puts it into an 8-bit image."""
    return min(max(value, 0), 255)


def _cut(image: np.ndarray, box: list[int], fill: int) -> np.ndarray:
    """The window (x1, y1, x2, y2), which may reach beyond the image."""
    x1, y1, x2, y2 = box
    result = np.full((y2 - y1 + 1, x2 - x1 + 1, *image.shape[2:]), fill, image.dtype)
    inside = image[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)]
    top, left = max(-y1, 0), max(-x1, 0)
    result[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return result


def _same_size(image: np.ndarray, label: np.ndarray, files: tuple[Path, ...], or_else: str = "") -> None:
    if image.shape[:2] != label.shape[:2]:
        sizes = [f"{file} is {one.shape[1]}×{one.shape[0]}" for file, one in zip(files, (image, label), strict=False)]
        raise LayerError(f"{', '.join(sizes)} (width×height); expected one size. Mend the label image{or_else}")
