"""WindowData: windows of images, drawn at random with a share of objects, as R-CNN was trained with."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from caffe_compat.data import resize
from caffe_compat.data.images import read_image
from caffe_compat.data.list_source import ListSource
from caffe_compat.data.source import SAMPLE, Sample
from caffe_compat.data.transform import load_mean
from caffe_compat.data.window_file import Windows, read_windows
from caffe_compat.errors import LayerError

log = logging.getLogger(__name__)


class WindowSource(ListSource):
    """Batches of data ``(N, 3, crop_size, crop_size)`` and label ``(N,)``.

    Each batch begins with windows of the background (label 0), drawn from those that overlap an object by less than
    ``bg_threshold``, and ends with ``fg_fraction`` of objects, from those with at least ``fg_threshold``.

    As a torch dataset it is the list of all these windows, objects first: ``(3, h, w)`` float32 and a number, int64.
    """

    message = "window_data_param"
    both = ()
    without_effect = ("mean_file", "crop_size", "mirror")

    def problems(self) -> list[str]:
        """Settings that Caffe refuses, and a crop_mode that it does not know."""
        found = super().problems()
        crop, pad = self.transform_param.crop_size, self.param.context_pad
        if not crop:
            found.append("transform_param has no crop_size; expected the size that windows are warped to")
        elif 2 * pad >= crop:
            found.append(f"context_pad {pad} on both sides leaves nothing of crop_size {crop}; expected less than half")
        if self.param.crop_mode not in ("warp", "square"):
            found.append(f"crop_mode is {self.param.crop_mode!r}; expected 'warp' or 'square'")
        return found

    @cached_property
    def windows(self) -> Windows:
        """What the file holds."""
        windows = read_windows(self.list_file)
        log.info("%s: %d windows of %d images", self.list_file, len(windows.image), len(windows.images))
        return windows

    @property
    def entries(self) -> list[str]:
        """The images."""
        return self.windows.images

    def names(self, entry: str) -> list[str]:
        """The image itself."""
        return [entry]

    @cached_property
    def objects(self) -> np.ndarray:
        """Which windows show an object."""
        return np.flatnonzero(self.windows.overlap >= np.float32(self.param.fg_threshold))

    @cached_property
    def background(self) -> np.ndarray:
        """Which windows show none."""
        threshold = np.float32(self.param.bg_threshold)
        background = self.windows.overlap < threshold
        background[self.objects] = False
        return np.flatnonzero(background)

    def __len__(self) -> int:
        return len(self.objects) + len(self.background)

    @cached_property
    def mean(self) -> np.ndarray | None:
        """What is subtracted: ``(3, crop_size, crop_size)`` from the middle of the mean image, or ``(C, 1, 1)``."""
        crop = self.transform_param.crop_size
        if not self.transform_param.mean_file:
            values = np.array(self.transform_param.mean_value, np.float32)
            return self._by_channel(values) if values.size else None
        mean = load_mean(self.paths.resolve(self.transform_param.mean_file))
        if mean.ndim == 1:
            return self._by_channel(mean)
        start = (mean.shape[2] - crop) // 2  # Caffe takes it from the width for rows too
        part = mean[:, start : start + crop, start : start + crop] if start >= 0 else mean[:, :0]
        if part.shape != (3, crop, crop):
            raise LayerError(
                f"mean_file has the shape {mean.shape}; expected (3, H, W), square and at least as large as crop_size "
                f"{crop}"
            )
        return part

    def prepare(self) -> None:
        """The window file and the mean; both kinds of windows must be there as far as they are wanted."""
        _ = self.mean
        wrong = self.objects[self.windows.label[self.objects] <= 0]
        if wrong.size:
            images, image, label, overlap, _ = self.windows
            first = wrong[0]
            raise LayerError(
                f"{self.list_file}: a window of {images[image[first]]} overlaps an object by {overlap[first]:g} and "
                f"has the class {label[first]}; expected 1 or more, as 0 is the background"
            )
        wanted = {"objects": self._object_count(), "background": self.batch_size - self._object_count()}
        for kind, number in wanted.items():
            if number and not getattr(self, kind).size:
                raise LayerError(
                    f"{self.list_file}: none of {len(self.windows.image)} windows counts as {kind}, of which {number} "
                    "are wanted in each batch; expected some. Set fg_threshold, bg_threshold or fg_fraction"
                )

    def top_shapes(self) -> list[tuple[int, ...]]:
        """Those of the batches."""
        self.prepare()
        return super().top_shapes()

    def sample(self, number: int) -> Sample:
        """Any window of the kind that stands at this place of the batch."""
        rng = self._rng(SAMPLE, number)
        is_object = number % self.batch_size >= self.batch_size - self._object_count()
        first, count = (0, len(self.objects)) if is_object else (len(self.objects), len(self.background))
        return self.read(first + int(rng.integers(count)), rng)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """A window by its place: objects, then background."""
        is_object = index < len(self.objects)
        window = self.objects[index] if is_object else self.background[index - len(self.objects)]
        files = self.find(self.windows.images[self.windows.image[window]])
        image = read_image(files[0])
        mirrored = bool(self.transform_param.mirror and rng.integers(2))
        data = self._warped(image, [int(side) for side in self.windows.box[window]], mirrored, files[0])
        label = self.windows.label[window] if is_object else 0
        return Sample((data, np.array(label, np.float32)), files)

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """The label as a class."""
        data, label = super().as_tensors(sample)
        return data, label.long()

    def _object_count(self) -> int:
        return int(np.float32(self.batch_size) * np.float32(self.param.fg_fraction))

    def _by_channel(self, values: np.ndarray) -> np.ndarray:
        if len(values) not in (1, 3):
            raise LayerError(f"{len(values)} mean values; expected 1 for all channels or 3")
        return values.reshape(-1, 1, 1)

    def _warped(self, image: np.ndarray, box: list[int], mirrored: bool, file: Path) -> np.ndarray:
        """The window resized into ``(3, crop_size, crop_size)``; what lies outside the image is zero."""
        crop, context = self.transform_param.crop_size, self.param.context_pad
        rows, columns = _Span(box[1], box[3]), _Span(box[0], box[2])
        empty = min(rows.length, columns.length) < 1
        if context or self.param.crop_mode == "square":
            halves = [np.float32(span.length) / 2 for span in (rows, columns)]
            if self.param.crop_mode == "square":
                halves = [max(halves)] * 2
            factor = np.float32(crop) / np.float32(crop - 2 * context)
            rows, columns = (span.widened(half * factor) for span, half in zip((rows, columns), halves, strict=True))
        placed = [span.placed(side, crop) for span, side in zip((rows, columns), image.shape[:2], strict=True)]
        if empty or None in placed:
            raise LayerError(f"{file}: nothing of the image lies in the window {box}; expected x1 y1 x2 y2 inside it")
        return self._drawn(image, *placed, mirrored)

    def _drawn(self, image: np.ndarray, rows: _Place, columns: _Place, mirrored: bool) -> np.ndarray:
        crop = self.transform_param.crop_size
        result = np.zeros((3, crop, crop), np.float32)
        left = columns.after if mirrored else columns.before
        height, width = min(rows.size, crop - rows.before), min(columns.size, crop - left)
        if height < 1 or width < 1:
            return result
        part = resize.bilinear(image[rows.first : rows.end, columns.first : columns.end], height, width)
        if mirrored:
            part = part[:, ::-1]
        place = (slice(None), slice(rows.before, rows.before + height), slice(left, left + width))
        result[place] = part.transpose(2, 0, 1)
        if self.mean is not None:
            result[place] -= np.broadcast_to(self.mean, result.shape)[place]
        result[place] *= np.float32(self.param.scale) * np.float32(self.transform_param.scale)
        return result


class _Place(NamedTuple):
    """Of one axis: the pixels taken from the image, how many they become, and what is left free around them."""

    first: int
    end: int
    size: int
    before: int
    after: int


class _Span(NamedTuple):
    """The pixels of a window along one axis, both ends included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def widened(self, half: np.float32) -> _Span:
        """With as much on both sides of the middle."""
        middle = np.float32(self.first) + np.float32(self.length) / 2
        return _Span(_rounded(middle - half), _rounded(middle + half))

    def placed(self, side: int, crop: int) -> _Place | None:
        """Where what lies within an image of ``side`` pixels comes in a crop; None when nothing does."""
        before, after = max(0, -self.first), max(0, self.last - side + 1)
        first, end = self.first + before, self.last - after + 1
        if end <= first:
            return None
        factor = np.float32(crop) / np.float32(self.length)
        return _Place(first, end, *(_rounded(np.float32(part) * factor) for part in (end - first, before, after)))


def _rounded(value: np.float32) -> int:
    """To the nearest whole number, halves away from zero as in C."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
