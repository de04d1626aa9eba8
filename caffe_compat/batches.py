"""pycaffe's passes over more items than the net holds at a time: ``forward_all`` and ``forward_backward_all``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from caffe_compat.errors import NetError

Arrays = dict[str, np.ndarray]


class BatchFace:
    """A mixin of ``Net``; needs its ``forward``, ``backward``, ``blobs``, ``inputs`` and ``outputs``."""

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> Arrays:
        """Forward in batches.

        Args:
            blobs: further blobs to collect beside the outputs.
            inputs: an array (M, …) for each input, with any number M of items; the last batch is filled up with zeros.

        Returns:
            blob name → (M, …), copies; of a blob without items, such as a loss, one value for each batch.

        Raises:
            NetError: the inputs are not those of the net, or do not fit.
        """
        names = [*self.outputs, *(blobs or [])]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for batch in _batches(inputs, self._batch_size()):
            for name, values in self.forward(blobs=blobs, **batch).items():
                parts[name].append(np.atleast_1d(values).copy())
        return self._joined(parts, _items(inputs))

    def forward_backward_all(
        self,
        blobs: Sequence[str] | None = None,
        diffs: Sequence[str] | None = None,
        **arrays: np.ndarray,
    ) -> tuple[Arrays, Arrays]:
        """Forward and backward in batches.

        Args:
            blobs, diffs: further blobs whose data or diff is collected.
            arrays: an array (M, …) for each input, and one for the diff of each output, where it is given.

        Returns:
            The data of outputs and ``blobs``, and the diffs of inputs and ``diffs``; as ``forward_all``.

        Raises:
            NetError: the arrays are not those of the net, or do not fit.
        """
        inputs = {name: array for name, array in arrays.items() if name in self.inputs}
        tops = {name: array for name, array in arrays.items() if name not in self.inputs}
        data: dict[str, list[np.ndarray]] = {name: [] for name in [*self.outputs, *(blobs or [])]}
        gradients: dict[str, list[np.ndarray]] = {name: [] for name in [*self.inputs, *(diffs or [])]}
        size = self._batch_size()
        for batch, top in zip(_batches(inputs, size), _batches(tops, size, _items(inputs)), strict=True):
            for name, values in self.forward(blobs=blobs, **batch).items():
                data[name].append(np.atleast_1d(values).copy())
            for name, values in self.backward(diffs=diffs, **top).items():
                gradients[name].append(np.atleast_1d(values).copy())
        return self._joined(data, _items(inputs)), self._joined(gradients, _items(inputs))

    def _batch_size(self) -> int:
        if not self.inputs:
            raise NetError("this net reads its own data; expected a net with inputs")
        return self.blobs[self.inputs[0]].shape[0]

    def _joined(self, parts: dict[str, list[np.ndarray]], items: int) -> Arrays:
        size = self._batch_size()
        whole = {name: np.concatenate(values) for name, values in parts.items()}
        return {
            name: values[:items] if self.blobs[name].shape[:1] == (size,) else values for name, values in whole.items()
        }


def _items(arrays: Arrays) -> int:
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise NetError(f"arrays with {counts or 'no'} items; expected equally many of each input")
    return next(iter(counts.values()))


def _batches(arrays: Arrays, size: int, items: int | None = None) -> Iterator[Arrays]:
    """Batches of ``size``; the last is filled up with zeros."""
    items = _items(arrays) if items is None else items
    for start in range(0, items, size):
        batch = {}
        for name, array in arrays.items():
            part = np.asarray(array[start : start + size])
            missing = size - len(part)
            batch[name] = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        yield batch
