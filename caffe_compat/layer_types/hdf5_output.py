"""HDF5Output: writes what reaches it into an HDF5 file."""

from __future__ import annotations

import h5py
import numpy as np
import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.paths import Paths
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape

_DATASETS = ("data", "label")
_CHUNK = 1 << 16


@layer("HDF5Output")
class HDF5Output(TorchLayer):
    """Writes two blobs as the datasets ``data`` and ``label``, in float32.

    Each pass appends its items; the first one begins the file anew, so that building a net writes nothing. The file is
    whole and closed after each pass. Like Caffe's, the datasets have at least 4 axes.

    bottoms: data (N, …), label (N, …)
    """

    bottoms = (2, 2)
    tops = (0, 0)

    def setup(self) -> None:
        """Read the file's name."""
        self.file_name = self.message.hdf5_output_param.file_name
        if not self.file_name:
            raise LayerError("hdf5_output_param has no `file_name`; expected the file to write")
        self.begun = False

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """None."""
        data, label = bottoms
        if not (data and label) or data[0] != label[0]:
            raise LayerError(
                f"data {tuple(data)} and label {tuple(label)}; expected as many items of both (first axis)"
            )
        return []

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Write. Raises LayerError when the file cannot be written, or holds items of another shape."""
        path = (self.context.paths or Paths()).resolve_output(self.file_name)
        blobs = {name: _as_written(blob) for name, blob in zip(_DATASETS, bottoms, strict=True)}
        try:
            with h5py.File(path, "a" if self.begun else "w") as file:
                _append(file, blobs)
        except OSError as error:
            raise LayerError(
                f"{path} cannot be written ({error}); give another `file_name` or end its readers"
            ) from error
        self.begun = True
        return ()


def _as_written(blob: torch.Tensor) -> np.ndarray:
    values = blob.detach().cpu().float().numpy()
    return values.reshape(values.shape + (1,) * (4 - values.ndim))


def _append(file: h5py.File, blobs: dict[str, np.ndarray]) -> None:
    for name, values in blobs.items():
        if name not in file:
            # HDF5's own guess of a chunk is made for a thousand items, which makes a file many times as large
            items = max(1, _CHUNK // values[0].nbytes)
            shape = values.shape[1:]
            file.create_dataset(name, (0, *shape), np.float32, maxshape=(None, *shape), chunks=(items, *shape))
        dataset = file[name]
        if dataset.shape[1:] != values.shape[1:]:
            raise LayerError(
                f"{file.filename} holds items {dataset.shape[1:]} in {name!r}, the next ones are {values.shape[1:]}; "
                "expected one shape in a file"
            )
    for name, values in blobs.items():
        count = len(file[name])
        file[name].resize(count + len(values), axis=0)
        file[name][count:] = values
