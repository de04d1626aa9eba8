"""What a training says while it runs, in Caffe's words, so that the log parsers and plotters made for Caffe read it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from caffe_compat.net import Net
from caffe_compat.training.learnable import Learnable

log = logging.getLogger("caffe_compat.training")


def number(value: float) -> str:
    """As C++ prints a float: six digits."""
    return f"{value:.6g}"


def values_of(net: Net) -> dict[str, np.ndarray]:
    """The outputs of a net by name, each as a copy (K,)."""
    return {name: np.array(net.blobs[name].data, np.float64).ravel() for name in net.outputs}


def output_lines(which: str, outputs: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> Iterator[str]:
    """One numbered line for each value of the outputs: ``    Train net output #0: loss = 1.2 (* 1 = 1.2 loss)``.

    Args:
        which: ``Train`` or ``Test``.
        outputs: of ``values_of``, in the net's order.
        weights: the loss weight of each.
    """
    index = 0
    for name, values in outputs.items():
        weight = weights.get(name, 0.0)
        for value in values:
            share = f" (* {number(weight)} = {number(weight * value)} loss)" if weight else ""
            yield f"    {which} net output #{index}: {name} = {number(value)}{share}"
            index += 1


def tell_updates(params: Sequence[Learnable]) -> None:
    """Caffe's lines of ``debug_info`` before an update: mean absolute values of parameters and updates."""
    for param in params:
        blob = param.blob
        values, diff = (number(float(half.abs().mean())) for half in (blob.data_tensor(), blob.diff_tensor()))
        log.info("    [Update] Layer %s, param %d data: %s; diff: %s", param.layer, param.index, values, diff)


class Pace:
    """BVLC Caffe's ``(3.1 iter/s, 6.4s/20 iters)``: how fast it went since the last time."""

    def __init__(self, display: int) -> None:
        self.display = display
        self._last: tuple[int, float] | None = None

    def tell(self, iteration: int) -> str:
        """With a space in front."""
        now = time.perf_counter()
        before, then = self._last or (iteration, now)
        self._last = (iteration, now)
        rate = (iteration - before) / max(now - then, 1e-9)
        return f" ({number(rate)} iter/s, {number(now - then)}s/{self.display} iters)"


class CaffeFormatter(logging.Formatter):
    """glog's line: ``I1125 02:31:37.123456 12345 solver.cpp:229] Iteration 0, loss = 2.4``.

    The file is always given as solver.cpp, by which Caffe's parsers find their lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = self.formatTime(record, "%m%d %H:%M:%S")
        micro = int((record.created % 1) * 1e6)
        head = f"{record.levelname[0]}{when}.{micro:06d} {record.process:>5} solver.cpp:{record.lineno}] "
        return head + record.getMessage()
