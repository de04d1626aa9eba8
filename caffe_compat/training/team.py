"""Several processes that train one model, each on its own part of the data, with one common gradient.

They are started by ``torchrun``; a process that was started alone is a team of one. As in BVLC Caffe every process runs
its own full batch, gradients are summed over the processes and divided by their number, and the first one alone tests,
logs and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


class Team:
    """This process among those that train with it."""

    def __init__(self) -> None:
        """Join the team that ``torchrun``'s environment describes, if it does."""
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def is_first(self) -> bool:
        """Whether this process tests, logs and writes."""
        return self.rank == 0

    def same(self, value: T) -> T:
        """The first process's value."""
        return self._gathered(value)[0] if self.size > 1 else value

    def all(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        return self._gathered(value) if self.size > 1 else [value]

    def take_over(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their mean over the processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)
                tensor.div_(self.size)

    def leave(self) -> None:
        """Wait until all are done, and end the connection."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()

    def _gathered(self, value: T) -> list[T]:
        found: list[T] = [value] * self.size
        dist.all_gather_object(found, value)
        return found
