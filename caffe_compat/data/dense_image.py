"""DenseImageData: images with a label image each, as the SegNet fork of Caffe reads them."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from caffe_compat.data import lists
from caffe_compat.data.images import read_label
from caffe_compat.data.list_source import ListSource
from caffe_compat.data.pair import Files, PairReader, problems
from caffe_compat.data.source import Sample
from caffe_compat.errors import LayerError

log = logging.getLogger(__name__)


class DenseImageSource(ListSource):
    """Batches of data ``(N, C, H, W)`` and label ``(N, 1, h, w)``.

    Mirror and crop are random in both phases, as in Caffe. As a torch dataset: ``(C, H, W)`` float32 and ``(h, w)``
    int64.
    """

    message = "dense_image_data_param"
    both = (("new_height", "new_width"), ("crop_height", "crop_width"))
    without_effect = ("mean_file",)

    def problems(self) -> list[str]:
        """Settings that Caffe refuses, or that would tear image and label apart."""
        return super().problems() + problems(self.param, self.transform_param, self.dialect)

    @cached_property
    def entries(self) -> list[tuple[str, str]]:
        """The pairs of the list, as they stand there."""
        pairs = lists.read_pairs(self.list_file)
        log.info("%s: %d images with labels", self.list_file, len(pairs))
        return pairs

    def names(self, entry: tuple[str, str]) -> list[str]:
        """Image and label."""
        return list(entry)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """A pair by its place in the list."""
        image, label = self.entries[index]
        files = Files(*self.find((image, label)))
        if image != label and files.image == files.label:
            raise LayerError(
                f"{image!r} and its label {label!r} in {self.list_file} both lead to {files.image}; expected two "
                "files. Say where they lie with `--root OLD=NEW`"
            )
        pair = PairReader(self.param, self.transform)(files, rng)
        if pair.doubt:
            self.tell_doubt(files.label, pair.doubt)
        return Sample((pair.data, pair.label), files)

    def labels(self, index: int, top: int) -> tuple[np.ndarray, Path | str]:
        """The label image as it lies there; a resize or a crop brings in no other value."""
        file = self.find(self.entries[index])[1]
        return read_label(file)[0], file

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """The label without its axis of one, as classes."""
        data, label = super().as_tensors(sample)
        return data, label[0].long()
