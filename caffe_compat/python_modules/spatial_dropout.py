"""ENet's spatial dropout: whole channels are dropped."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np
import torch

from caffe_compat.blob import Blob
from caffe_compat.python_layer import Layer


class SpatialDropoutLayer(Layer):
    """Channels of each image are zero with probability ``p``, the others are multiplied by 1 / (1 - p).

    bottom, top: (N, C, H, W)

    As in ENet: ``param_str`` is a literal such as ``{'phase': 'TRAIN', 'p': '0.1'}``, whose phase counts, not that of
    the net; in TEST nothing is dropped, but everything is multiplied; and backward takes the channels that were
    dropped from the last image for those of every image.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read ``param_str``."""
        settings = ast.literal_eval(self.param_str)
        self.drops, p = settings["phase"] == "TRAIN", float(settings["p"])
        if not 0 < p < 1:
            raise ValueError(f"'p' is {p}; expected a number between 0 and 1")
        self.keep = 1 - p

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The bottom's own shape."""
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw the channels, then multiply."""
        shape = (*bottom[0].shape[:2], 1, 1)
        self.factors = np.full(shape, 1 / self.keep, np.float32)
        if self.drops:  # from torch's generator, as all random numbers
            self.factors *= torch.bernoulli(torch.full(shape, self.keep)).numpy()
        np.multiply(bottom[0].data, self.factors, out=top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Multiply by what the last image was multiplied by."""
        if propagate_down[0]:
            np.multiply(top[0].diff, self.factors[-1], out=bottom[0].diff)
