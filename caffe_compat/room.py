"""Whether a net's parameters fit into this machine, asked before any of them is allocated."""

from __future__ import annotations

import math
import os

from caffe_compat.errors import RoomError
from caffe_compat.graph import Graph

_FLOAT = 4  # bytes


def check_room(graph: Graph) -> None:
    """Raise RoomError, naming the largest, for parameters that take more memory than the machine has."""
    sizes = [
        (_FLOAT * math.prod(param.spec.shape), node.where, tuple(param.spec.shape))
        for node in graph.nodes
        for param in node.params
        if param.owner is None
    ]
    needed, there = sum(size for size, _, _ in sizes), _memory()
    if there is None or needed <= there:
        return
    size, where, shape = max(sizes)
    raise RoomError(
        f"{where}: parameters of the shape {shape} take {size / 1e9:,.1f} GB, those of the whole net "
        f"{needed / 1e9:,.1f} GB; this machine has {there / 1e9:,.1f} GB. Look for a mistyped number in the "
        "prototxt, or an input that is too large"
    )


def _memory() -> int | None:
    """Bytes of physical memory, None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
