"""DenseImageData: images with a label image each, as the SegNet fork of Caffe reads them.

Two things cannot be as in Caffe, whose random numbers are another generator's: which order a shuffle gives, and which
samples are mirrored or cropped where. Here both follow from ``(seed, epoch, place in the list)`` alone, so that the
same seed gives the same batches with any number of workers, and also after a resume.
"""

from __future__ import annotations

import logging
import secrets
import threading
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from caffe_compat.data import lists
from caffe_compat.data.pair import Files, Pair, PairReader, problems
from caffe_compat.data.prefetch import ReadAhead
from caffe_compat.data.transform import Transform, load_mean
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import DenseImageDataParameter, TransformationParameter
from prototxt.errors import MissingFileError

log = logging.getLogger(__name__)

_ORDER, _SAMPLE, _SKIP = range(3)
_SHOWN = 10
_warning = threading.Lock()


class _Batch(NamedTuple):
    data: np.ndarray
    label: np.ndarray
    files: list[Files]


class DenseImageSource(Dataset):
    """What a DenseImageData layer puts out, batch after batch, round and round the list.

    It is also a dataset for torch: ``source[i]`` is the i-th pair of the list, ``(C, H, W)`` float32 and ``(H, W)``
    int64. Its mirror and crop are those of the current epoch (``load_state_dict`` sets it).

    Args:
        param: ``dense_image_data_param``.
        transform_param: for the image; the label keeps its values.
        phase: TRAIN or TEST. Mirror and crop are random in both, as in Caffe.
        dialect: of Caffe; only the wording of an error depends on it.
        paths: finds the files; by default relative to the current folder.
        seed: of the shuffle, the mirror and the crop. None or a negative one: another one in every run.
        workers: threads that read ahead; 0 for none. The batches are the same.
        ahead: batches to read ahead (default: one for each worker).

    Raises:
        LayerError: settings that Caffe refuses; all of them together.
    """

    def __init__(
        self,
        param: DenseImageDataParameter,
        transform_param: TransformationParameter,
        phase: int,
        dialect: str = "segnet",
        paths: Paths | None = None,
        seed: int | None = None,
        *,
        workers: int = 1,
        ahead: int | None = None,
    ) -> None:
        found = problems(param, transform_param, dialect)
        if found:
            raise LayerError(found)
        if param.mean_file:
            log.warning(
                "dense_image_data_param.mean_file %r has no effect, as in Caffe; the mean is subtracted with "
                "transform_param { mean_file: ... }",
                param.mean_file,
            )
        self.param = param
        self.transform_param = transform_param
        self.phase = phase
        self.paths = paths or Paths()
        self.last_files: list[Files] = []
        self._seed = secrets.randbits(63) if seed is None or seed < 0 else seed
        self._position: int | None = None
        self._orders: dict[int, np.ndarray] = {}
        self._told = False
        self._workers, self._ahead = workers, ahead
        self._reader: ReadAhead[_Batch] | None = None

    def top_shapes(self) -> list[tuple[int, ...]]:
        """``[(N, C, H, W), (N, 1, h, w)]`` of the first image that comes, which is read for it.

        Raises:
            MissingFileError: the list, the mean or the image is not there.
            CaffeError: the image does not fit the settings.
        """
        first = self._sample(self._start())
        return [(self.param.batch_size, *blob.shape) for blob in (first.data, first.label)]

    def next_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The next batch: data ``(N, C, H, W)`` and label ``(N, 1, h, w)``, float32; ``last_files`` names the files.

        After an error the same batch is tried again.

        Raises:
            CaffeError: a file is missing or damaged, or sizes do not fit together.
        """
        if self._reader is None:
            self._reader = self._read_ahead(self._start())
        batch = self._reader.get()
        self._position = self._start() + self.param.batch_size
        self.last_files = batch.files
        return batch.data, batch.label

    def close(self) -> None:
        """End the reading threads. The next ``next_batch`` goes on with the batch that would have come."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def state_dict(self) -> dict[str, int]:
        """Where the source stands: the seed, the epoch and the number of samples of it that have been given out."""
        epoch, position = divmod(self._start(), len(self))
        return {"seed": self._seed, "epoch": epoch, "position": position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a source over the same list stood."""
        self.close()
        self._orders.clear()
        self._seed = state["seed"]
        self._position = state["epoch"] * len(self) + state["position"]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of a list with {len(self)} pairs")
        pair = self._read(index % len(self), self._start() // len(self))
        return torch.from_numpy(pair.data), torch.from_numpy(pair.label[0]).long()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_reader": None}

    @cached_property
    def list_file(self) -> Path:
        """Where the list was found. Raises MissingFileError."""
        return self.paths.resolve(self.param.source)

    @cached_property
    def entries(self) -> list[tuple[str, str]]:
        """The pairs of the list, as they stand there with ``root_folder`` in front."""
        pairs = lists.read_pairs(self.list_file)
        if self.param.rand_skip > len(pairs):
            raise LayerError(
                f"rand_skip {self.param.rand_skip} can skip more than the {len(pairs)} pairs of {self.list_file}; "
                f"expected {len(pairs)} at most"
            )
        log.info("%s: %d images with labels", self.list_file, len(pairs))
        root = self.param.root_folder
        return [(root + image, root + label) for image, label in pairs]

    @cached_property
    def _reading(self) -> PairReader:
        name = self.transform_param.mean_file
        mean = load_mean(self.paths.resolve(name)) if name else None
        return PairReader(self.param, Transform(self.transform_param, self.phase, mean))

    def _start(self) -> int:
        """How many samples lie before the next one, counted through all epochs."""
        if self._position is None:
            skip = self.param.rand_skip
            self._position = int(self._rng(_SKIP).integers(skip)) if skip else 0
        return self._position

    def _rng(self, purpose: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([purpose, self._seed, *numbers])

    def _order(self, epoch: int) -> np.ndarray:
        """The places in the list in the order of an epoch."""
        order = self._orders.get(epoch)
        if order is None:
            order = self._rng(_ORDER, epoch).permutation(len(self)) if self.param.shuffle else np.arange(len(self))
            # Threads that read ahead are at most some epochs apart; older orders are not needed again.
            self._orders = {e: o for e, o in self._orders.items() if e > epoch - 3} | {epoch: order}
        return order

    def _read_ahead(self, start: int) -> ReadAhead[_Batch]:
        _ = self.entries, self._reading  # read here once, and not by every thread
        size = self.param.batch_size
        return ReadAhead(lambda number: self._batch(start + number * size), self._workers, self._ahead)

    def _batch(self, start: int) -> _Batch:
        """Samples ``start`` to ``start + batch_size``, counted through all epochs."""
        pairs = [self._sample(start + i) for i in range(self.param.batch_size)]
        first = pairs[0]
        for other in pairs[1:]:
            if (other.data.shape, other.label.shape) != (first.data.shape, first.label.shape):
                raise LayerError(
                    f"{first.files.image} and {other.files.image} are in one batch and have different shapes, "
                    f"{first.data.shape} and {other.data.shape} (channels, height, width); expected one shape. Give "
                    "new_height and new_width, or crop_height and crop_width, or batch_size: 1"
                )
        return _Batch(
            np.stack([pair.data for pair in pairs]),
            np.stack([pair.label for pair in pairs]),
            [pair.files for pair in pairs],
        )

    def _sample(self, number: int) -> Pair:
        """Sample ``number``, counted through all epochs."""
        epoch, position = divmod(number, len(self))
        return self._read(int(self._order(epoch)[position]), epoch)

    def _read(self, index: int, epoch: int) -> Pair:
        """A pair by its place in the list."""
        pair = self._reading(self._find(*self.entries[index]), self._rng(_SAMPLE, epoch, index))
        if pair.doubt:
            self._tell(pair)
        return pair

    def _find(self, image: str, label: str) -> Files:
        try:
            files = Files(*(self.paths.resolve(name, self.list_file) for name in (image, label)))
        except MissingFileError as error:
            raise MissingFileError([str(error), self._missing()]) from None
        if image != label and files.image == files.label:
            raise LayerError(
                f"{image!r} and its label {label!r} in {self.list_file} both lead to {files.image}; expected two "
                "files. Say where they lie with `--root OLD=NEW`"
            )
        return files

    def _missing(self) -> str:
        names = [name for pair in self.entries for name in pair]
        missing = self.paths.missing(names, self.list_file)
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return (
            f"{self.list_file}: {len(missing)} of the {len(names)} files it names are missing: "
            f"{', '.join(missing[:_SHOWN])}{more}"
        )

    def _tell(self, pair: Pair) -> None:
        with _warning:
            if self._told:
                return
            self._told = True
        log.warning(
            "%s: the label %s is %s, as in Caffe. Expected an 8-bit grey image whose values are the classes. From a "
            "palette image one is made with Pillow by `Image.fromarray(numpy.array(Image.open(f))).save(f)`, from "
            "colours by looking up the class of each",
            self.list_file,
            pair.files.label,
            pair.doubt,
        )
