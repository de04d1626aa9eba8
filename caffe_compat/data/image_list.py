"""ImageData: images with a class number each."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from caffe_compat.data import lists, resize
from caffe_compat.data.images import read_image
from caffe_compat.data.list_source import ListSource
from caffe_compat.data.source import Sample
from caffe_compat.errors import LayerError

log = logging.getLogger(__name__)

#: Forks whose ImageData is that of early 2015: no name with a space, no default for ``batch_size``.
OLD_FORKS = frozenset({"segnet", "deconvnet"})


class ImageSource(ListSource):
    """Batches of data ``(N, C, H, W)`` and label ``(N,)``.

    As a torch dataset: ``(C, H, W)`` float32 and a number, int64.
    """

    message = "image_data_param"
    without_effect = ("scale", "mean_file", "crop_size", "mirror")
    one_shape = "new_height and new_width, or crop_size, or batch_size: 1"

    @cached_property
    def entries(self) -> list[tuple[str, int]]:
        """Name and class of each image."""
        entries = lists.read_labelled(self.list_file, by_words=self.dialect in OLD_FORKS)
        log.info("%s: %d images", self.list_file, len(entries))
        return entries

    def problems(self) -> list[str]:
        """Settings that Caffe refuses or that only ImageSegData reads."""
        strange = [f for f in ("scale_factors", "crop_height", "crop_width") if getattr(self.transform_param, f)]
        return super().problems() + [
            f"transform_param.{field} is for ImageSegData; ImageData crops to a square of crop_size"
            for field in strange
        ]

    def names(self, entry: tuple[str, int]) -> list[str]:
        """The image."""
        return [entry[0]]

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """An image by its place in the list."""
        entry = self.entries[index]
        files = self.find(entry)
        image = read_image(files[0], self.param.is_color)
        if self.param.new_height:
            image = resize.bilinear(image, self.param.new_height, self.param.new_width)
        try:
            data = self.transform(image, rng)
        except LayerError as error:
            raise LayerError(error.at(str(files[0]))) from None
        return Sample((data, np.array(entry[1], np.float32)), files)

    def labels(self, index: int, top: int) -> tuple[np.ndarray, Path | str]:
        """The class that stands in the list."""
        name, label = self.entries[index]
        return np.array(label), name

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """The label as a class."""
        data, label = super().as_tensors(sample)
        return data, label.long()
