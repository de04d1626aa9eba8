"""A source of batches: what every data layer that reads files has in common, whatever it reads.

Two things cannot be as in Caffe, whose random numbers are another generator's: which order a shuffle gives, and what is
drawn for a sample (its mirror, its crop). Here both follow from ``(seed, epoch, place)`` alone, so that the same seed
gives the same batches with any number of workers, and also after a resume.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from caffe_compat.data.prefetch import ReadAhead
from caffe_compat.errors import LayerError

#: What random numbers are drawn for.
ORDER, SAMPLE, SKIP = range(3)


class Sample(NamedTuple):
    """One item of a batch."""

    blobs: tuple[np.ndarray, ...]
    """What goes into each top, without the axis of the batch; float32."""
    files: tuple[Path | str, ...]
    """What it was read from; the last is what its label was read from."""


class Batch(NamedTuple):
    """Samples that are put out together."""

    blobs: tuple[np.ndarray, ...]
    files: list[tuple[Path | str, ...]]


class Source(Dataset, ABC):
    """What a data layer puts out, batch after batch, round and round its entries.

    A subclass says what the entries are: how many (``__len__``), where they come from (``where``), and how one is read
    (``read``). It may also say what is opened once before anything is read (``prepare``), in which order an epoch goes
    (``order``), what a sample is (``sample``) and how samples become a batch (``stack``).

    It is also a dataset for torch: ``source[i]`` is the i-th entry as tensors. What is drawn for it is that of the
    current epoch (``load_state_dict`` sets it).

    Args:
        batch_size: samples in a batch.
        shuffle: a new order in every epoch.
        rand_skip: fewer entries than this are passed over at the start.
        seed: of everything that is drawn. None or a negative one: another one in every run.
        workers: threads that read ahead; 0 for none. The batches are the same.
        ahead: batches to read ahead (default: one for each worker).
    """

    one_shape: ClassVar[str] = "batch_size: 1"
    """What to do where the samples of a batch have different shapes, for the error."""

    def __init__(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        rand_skip: int = 0,
        seed: int | None = None,
        workers: int = 1,
        ahead: int | None = None,
    ) -> None:
        self.batch_size, self.shuffle, self.rand_skip = batch_size, shuffle, rand_skip
        self.last_files: list[tuple[Path | str, ...]] = []
        self._seed = secrets.randbits(63) if seed is None or seed < 0 else seed
        self._position: int | None = None
        self._orders: dict[int, Sequence[int] | np.ndarray] = {}
        self._workers, self._ahead = workers, ahead
        self._reader: ReadAhead[Batch] | None = None

    # ---- what a subclass says

    @abstractmethod
    def __len__(self) -> int:
        """The number of entries. Raises MissingFileError where they are not there."""

    @property
    @abstractmethod
    def where(self) -> str:
        """What holds the entries, for messages."""

    @abstractmethod
    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """An entry by its place; ``rng`` draws its mirror, its crop and the like. Called from several threads.

        Raises:
            CaffeError: it is missing or damaged, or does not fit the settings.
        """

    def prepare(self) -> None:
        """Open what is needed for reading, once, before threads do it side by side."""
        len(self)

    def order(self, rng: np.random.Generator) -> Sequence[int] | np.ndarray:
        """The places of the entries in the order of an epoch."""
        return rng.permutation(len(self)) if self.shuffle else range(len(self))

    def sample(self, number: int) -> Sample:
        """Sample ``number``, counted through all epochs."""
        epoch, position = divmod(number, len(self))
        return self._read(int(self._order(epoch)[position]), epoch)

    def stack(self, samples: list[Sample]) -> tuple[np.ndarray, ...]:
        """Samples as the tops of one batch.

        Raises:
            LayerError: their shapes differ.
        """
        first = samples[0]
        for other in samples[1:]:
            for one, two in zip(first.blobs, other.blobs, strict=True):
                if one.shape != two.shape:
                    raise LayerError(
                        f"{first.files[0]} and {other.files[0]} are in one batch and have different shapes, "
                        f"{one.shape} and {two.shape} (channels, height, width); expected one shape. Give "
                        f"{self.one_shape}"
                    )
        return tuple(np.stack(blobs) for blobs in zip(*(sample.blobs for sample in samples), strict=True))

    def as_tensors(self, sample: Sample) -> tuple[torch.Tensor, ...]:
        """A sample as torch's users want it."""
        return tuple(torch.from_numpy(np.asarray(blob)) for blob in sample.blobs)

    def labels(self, index: int, top: int) -> tuple[np.ndarray, Path | str]:
        """The values that an entry puts into a top of labels, and what they are read from.

        A source whose labels lie apart from its images need not read the images for it.
        """
        sample = self._read(index, 0)
        return sample.blobs[top], sample.files[-1]

    # ---- what a user calls

    def top_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the tops for the first sample that comes, which is read for it.

        Raises:
            MissingFileError: something that is read is not there.
            CaffeError: it does not fit the settings.
        """
        first = self.sample(self._start())
        return [(self.batch_size, *blob.shape) for blob in first.blobs]

    def next_batch(self) -> tuple[np.ndarray, ...]:
        """The next batch, float32: ``(N, …)`` for each top; ``last_files`` says where its samples come from.

        After an error the same batch is tried again.

        Raises:
            CaffeError: a file is missing or damaged, or sizes do not fit together.
        """
        if self._reader is None:
            self._reader = self._read_ahead(self._start())
        batch = self._reader.get()
        self._position = self._start() + self.batch_size
        self.last_files = batch.files
        return batch.blobs

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
        """Go on where a source over the same entries stood."""
        self.close()
        self._orders.clear()
        self._seed = state["seed"]
        self._position = state["epoch"] * len(self) + state["position"]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of the {len(self)} entries of {self.where}")
        return self.as_tensors(self._read(index % len(self), self._start() // len(self)))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_reader": None}

    # ---- order and threads

    def _rng(self, purpose: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([purpose, self._seed, *numbers])

    def _start(self) -> int:
        """How many samples lie before the next one, counted through all epochs."""
        if self._position is None:
            if self.rand_skip > len(self):
                raise LayerError(
                    f"rand_skip {self.rand_skip} can skip more than the {len(self)} entries of {self.where}; expected "
                    f"{len(self)} at most"
                )
            self._position = int(self._rng(SKIP).integers(self.rand_skip)) if self.rand_skip else 0
        return self._position

    def _order(self, epoch: int) -> Sequence[int] | np.ndarray:
        order = self._orders.get(epoch)
        if order is None:
            order = self.order(self._rng(ORDER, epoch))
            # Threads that read ahead are at most some epochs apart; older orders are not needed again.
            self._orders = {e: o for e, o in self._orders.items() if e > epoch - 3} | {epoch: order}
        return order

    def _read(self, index: int, epoch: int) -> Sample:
        return self.read(index, self._rng(SAMPLE, epoch, index))

    def _read_ahead(self, start: int) -> ReadAhead[Batch]:
        self.prepare()
        return ReadAhead(lambda number: self._batch(start + number * self.batch_size), self._workers, self._ahead)

    def _batch(self, start: int) -> Batch:
        samples = [self.sample(start + i) for i in range(self.batch_size)]
        return Batch(self.stack(samples), [sample.files for sample in samples])
