"""How much memory a training takes, estimated from its graph, and how to make it fit: smaller batches, more of them."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

from caffe_compat.errors import SolverError
from caffe_compat.graph import Graph
from prototxt.caffe_pb2 import LayerParameter, NetParameter

log = logging.getLogger(__name__)

_FLOAT, _POSITION = 4, 8  # bytes of a value, and of a pooling position as torch keeps it
#: What was measured on SegNet and SegNet-Basic over what is counted: work space of the convolutions, passing copies.
_FAITHFUL, _LEAN, _CHECKPOINTING = 1.4, 1.15, 0.9


class Need(NamedTuple):
    """Bytes that a training takes beyond the interpreter and torch."""

    fixed: int
    """Parameters, their gradients and histories."""
    per_item: int
    """Blobs, their gradients, and what is kept for the backward pass, for one item of the batch."""

    def total(self, batch: int) -> int:
        """For a batch."""
        return self.fixed + batch * self.per_item


def estimate(graph: Graph, histories: int, *, lean: bool = False, checkpointing: bool = False) -> Need:
    """What a net takes to train.

    Args:
        graph: of the training net.
        histories: of the update rule, for each parameter.
        lean: blobs are freed as soon as they can be (see ``passes``).
        checkpointing: some blobs are computed anew.
    """
    computed = [node for node in graph.nodes if not node.layer.is_source]
    tops = sum(math.prod(shape) for node in computed for shape in node.top_shapes)
    positions = sum(
        math.prod(node.top_shapes[1]) for node in computed if node.layer.type == "Pooling" and node.tops[1:]
    )
    kept = tops * _FLOAT + 2 * positions * _POSITION
    if checkpointing:
        kept *= _CHECKPOINTING
    elif lean:
        kept *= _LEAN
    else:
        kept = (kept + sum(math.prod(shape) for shape in graph.blobs.values()) * _FLOAT) * _FAITHFUL
    items = max((graph.blobs[name][0] for name in graph.feeds if graph.blobs[name]), default=1)
    return Need(graph.parameter_count * _FLOAT * (2 + histories), round(kept / items))


def fit(net: NetParameter, iter_size: int, need: Need, budget: int) -> int:
    """Write smaller batches into a net where its training would take more than ``budget`` bytes.

    Returns the ``iter_size`` that makes up for them. Raises SolverError where not even one item fits.
    """
    written = batch_size(net)
    size, iter_size = smaller_batches(written, iter_size, need, budget)
    log.info(
        "Memory: about %.0f MB for a batch of %d, %.0f MB may be taken: batch_size %d, iter_size %d",
        *(need.total(written) / 1e6, written, budget / 1e6, size, iter_size),
    )
    set_batch_size(net, size)
    return iter_size


def smaller_batches(batch: int, iter_size: int, need: Need, budget: int) -> tuple[int, int]:
    """The largest batch that divides the written one and fits, and the ``iter_size`` that makes up for it.

    Raises:
        SolverError: not even one item fits.
    """
    for size in sorted((size for size in range(1, batch + 1) if batch % size == 0), reverse=True):
        if need.total(size) <= budget:
            return size, iter_size * (batch // size)
    raise SolverError(
        f"one item takes about {need.total(1) / 1e6:.0f} MB, and {budget / 1e6:.0f} MB are to be enough; expected more "
        "memory, smaller images (new_height, new_width) or checkpointing"
    )


def set_batch_size(net: NetParameter, size: int) -> None:
    """Give every data layer of a net another batch size."""
    for layer in net.layer:
        for param in _with_batch_size(layer):
            param.batch_size = size


def batch_size(net: NetParameter) -> int:
    """The largest batch size that a net's data layers write; 1 where none does."""
    return max((param.batch_size for layer in net.layer for param in _with_batch_size(layer)), default=1)


def _with_batch_size(layer: LayerParameter) -> list:
    return [value for field, value in layer.ListFields() if field.message_type and not field.is_repeated
            and "batch_size" in field.message_type.fields_by_name]  # fmt: skip
