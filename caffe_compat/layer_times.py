"""How long each layer of a net takes, forward and backward, in the order of `caffe time`, and what it is fed with.

Timing tools share this. Times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple, Protocol

import torch

from caffe_compat.data_layer import DataLayer
from caffe_compat.graph import Graph, Node
from caffe_compat.layer_types.memory_data import MemoryData
from caffe_compat.net import Net
from prototxt.errors import MissingFileError


class Clock(Protocol):
    """Takes marks between pieces of work, and tells the times between them when all is done."""

    def mark(self) -> object:
        """The moment when everything before this call is done."""

    def between(self, marks: Sequence[object]) -> list[float]:
        """The time from each mark to the next."""


class WallClock:
    """For the CPU, where a call returns when its work is done."""

    def mark(self) -> float:
        """Now."""
        return perf_counter()

    def between(self, marks: Sequence[float]) -> list[float]:
        """See Clock."""
        return [1000 * (later - earlier) for earlier, later in pairwise(marks)]


class CudaClock:
    """For a GPU, by events: nothing waits for the device but ``between``."""

    def mark(self) -> torch.cuda.Event:
        """An event behind what the device was given so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, marks: Sequence[torch.cuda.Event]) -> list[float]:
        """See Clock."""
        marks[-1].synchronize()
        return [earlier.elapsed_time(later) for earlier, later in pairwise(marks)]


def clock_of(net: Net) -> Clock:
    """The clock for the device that a net is on."""
    return CudaClock() if net._anchor.tensor.device.type == "cuda" else WallClock()


class PassTimes(NamedTuple):
    """One pass forward and backward."""

    forward: list[float]
    """Of each layer, in the order of ``net.layers``."""
    backward: list[float]
    total: float


def time_pass(net: Net, clock: Clock) -> PassTimes:
    """Run every layer forward, then every layer backward, as pycaffe's net does, and time each. Raises as the layers.

    The net has been run once before, so that everything is where it shall be (see ``ask_for_gradients`` too).
    """
    count = len(net.layers)
    marks = [clock.mark()]
    for i, node in enumerate(net.graph.nodes):
        net._run(i, node)
        marks.append(clock.mark())
    for i in reversed(range(count)):
        net._backward(i, i)
        marks.append(clock.mark())
    times = clock.between(marks)
    return PassTimes(times[:count], times[count:][::-1], clock.between([marks[0], marks[-1]])[0])


def ask_for_gradients(graph: Graph) -> None:
    """Let backward run where Caffe's benchmark runs it, which does not ask what leads to a loss."""
    for node in graph.nodes:
        wanted = any(node.propagate_down) or any(param.needs_diff for param in node.params)
        node.needs_backward = wanted and node.layer.has_backward


def feed_random(net: Net, at_size: bool = False) -> list[str]:
    """Fill the inputs, and the tops of data layers that cannot read (or shall not), with random numbers.

    Labels are whole numbers below the number of classes, everything else lies between 0 and 1.

    Args:
        net: whose data layers give these numbers from now on.
        at_size: whether all data layers do.

    Returns the names of the blobs that were filled.
    """
    random = list(net.inputs)
    for i, node in enumerate(net.graph.nodes):
        if isinstance(node.layer, DataLayer | MemoryData) and (at_size or not _can_read(net, i, node)):
            node.layer.kept = dict.fromkeys(range(len(node.tops)), 0.0)
            random += node.tops
    classes = _classes(net.graph)
    for name in random:
        shape = tuple(net.blobs[name].shape)
        # the others are below 1, so that whoever takes such values as labels or indices finds number 0
        values = torch.randint(classes[name], shape) if name in classes else torch.rand(shape)
        net.blobs[name].data_tensor().copy_(values)
    return random


def _can_read(net: Net, index: int, node: Node) -> bool:
    if isinstance(node.layer, MemoryData):
        return False  # only a program could give it arrays
    try:
        net._run(index, node)
    except MissingFileError:
        return False
    return True


def _classes(graph: Graph) -> dict[str, int]:
    """For each blob that is some layer's second bottom, as labels are: the channels of the first, which they number."""
    origins: dict[str, str] = {}
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.layer.type == "Split":
            origins.update(dict.fromkeys(node.tops, origins.get(node.bottoms[0], node.bottoms[0])))
        elif len(node.bottoms) > 1 and len(node.bottom_shapes[0]) > 1:
            name, channels = origins.get(node.bottoms[1], node.bottoms[1]), node.bottom_shapes[0][1]
            found[name] = min(channels, found.get(name, channels))
    return found
