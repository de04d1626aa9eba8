"""What a training says while it runs, in Caffe's words, so that the log parsers and plotters made for Caffe read it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from caffe_compat.net import Net

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
