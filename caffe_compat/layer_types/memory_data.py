"""MemoryData: batches from arrays that the program holds."""

from __future__ import annotations

import logging

import numpy as np
import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape

log = logging.getLogger(__name__)


@layer("MemoryData")
class MemoryData(TorchLayer):
    """Batches from the arrays of ``net.set_input_arrays``, one after the other, round and round.

    tops: data (N, C, H, W); label (N,), which from the first pass on is (N, 1, 1, 1), as in Caffe
    """

    bottoms = (0, 0)
    tops = (2, 2)
    is_source = True

    def setup(self) -> None:
        """Read the sizes."""
        param = self.message.memory_data_param
        self.written = (param.batch_size, param.channels, param.height, param.width)
        self.arrays: tuple[np.ndarray, np.ndarray] | None = None
        self.position = 0

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The written shape, or the one given for the net."""
        data, label = self.message.top
        self.shape = self.context.sized(data, self.written)
        if 0 in self.shape or len(self.shape) != 4:
            raise LayerError(
                f"memory_data_param says (batch_size, channels, height, width) = {self.shape}; expected 1 or more for "
                "each of the four"
            )
        return [self.shape, self.context.input_shapes.get(label) or self.shape[:1]]

    def take(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Go on with the first items of these arrays; see ``Net.set_input_arrays``. Raises LayerError."""
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, None, None, None])
        batch, *sizes = self.shape
        problems = [
            text
            for name, array, rest in (("data", data, tuple(sizes)), ("labels", labels, (1, 1, 1)))
            for text in _array_problems(name, array, rest)
        ]
        if not problems and len(data) != len(labels):
            problems.append(f"{len(data)} items of data and {len(labels)} labels; expected a label for each item")
        if not problems and (len(data) == 0 or len(data) % batch):
            problems.append(f"{len(data)} items; expected a multiple of the batch_size {batch}, and at least that many")
        if problems:
            raise LayerError(problems)
        if self.message.HasField("transform_param"):
            log.warning("layer %r: transform_param has no effect on arrays that are given, as in Caffe", self.name)
        self.arrays, self.position = (data, labels), 0

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The next batch, copied, so that no in-place layer writes into the arrays. Raises LayerError without them."""
        if self.arrays is None:
            raise LayerError(
                "has no data yet; expected `net.set_input_arrays(data, labels)` before the first pass. Fed by hand, "
                "the net runs with `net.forward(start=…)` from the layer after this one, or with tensors"
            )
        data, labels = self.arrays
        part = slice(self.position, self.position + self.shape[0])
        self.position = part.stop % len(data)
        return torch.tensor(data[part]), torch.tensor(labels[part])


def _array_problems(name: str, array: np.ndarray, rest: Shape) -> list[str]:
    if array.ndim != 4 or array.shape[1:] != rest:
        expected = f"(n, {', '.join(map(str, rest))})" + (" or (n,)" if name == "labels" else "")
        return [f"{name} of shape {array.shape}; expected {expected}"]
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        order = "" if array.flags.c_contiguous else ", not C-contiguous"
        return [
            f"{name} of type {array.dtype}{order}; expected C-contiguous float32, since the array is not copied. "
            f"Convert it with `numpy.ascontiguousarray({name}, numpy.float32)`"
        ]
    return []
