"""A net's layers as operations on numbered values: no blob is written twice, and nothing only hands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from caffe_compat.graph import Graph, Node
from caffe_compat.layer_types.neuron import Dropout, ReLU
from caffe_compat.layer_types.structural import Split


@dataclass
class Operation:
    """A layer, or one with the ReLU behind it, that reads and writes values by their numbers."""

    node: Node
    reads: list[int]
    writes: list[int]
    relu: bool = False
    """Whether a ReLU follows, whose value is what is written."""


@dataclass
class Flow:
    """The operations of a net in an order that works."""

    feeds: dict[str, int] = field(default_factory=dict)
    """Blob name → value, of what comes from outside."""
    outputs: dict[str, int] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    """Blob name → the value that it holds in the end."""
    blobs: list[str] = field(default_factory=list)
    """The blob that each value is, or was for a while."""

    def readers(self, value: int) -> list[Operation]:
        """Who reads a value."""
        return [operation for operation in self.operations if value in operation.reads]

    def reader(self, value: int) -> Operation | None:
        """The only one that reads a value; None where there are others, or it is an output."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 and value not in self.outputs.values() else None


def flow_of(graph: Graph) -> Flow:
    """The flow of a net, without splits, and without dropout that drops nothing."""
    flow = Flow()
    for name in graph.feeds:
        flow.feeds[name] = flow.last[name] = len(flow.blobs)
        flow.blobs.append(name)
    for node in graph.nodes:
        if node.layer.is_source:
            continue
        reads = [flow.last[bottom] for bottom in node.bottoms]
        if _hands_on(node):
            flow.last.update(dict.fromkeys(node.tops, reads[0]))
            continue
        writes = list(range(len(flow.blobs), len(flow.blobs) + len(node.tops)))
        flow.blobs += node.tops
        flow.last.update(zip(node.tops, writes, strict=True))
        flow.operations.append(Operation(node, reads, writes))
    flow.outputs = {name: flow.last[name] for name in graph.outputs}
    return flow


def _hands_on(node: Node) -> bool:
    layer = node.layer
    return isinstance(layer, Split) or (isinstance(layer, Dropout) and not layer.training and not layer.samples_in_test)


def fuse_relus(flow: Flow) -> None:
    """Let convolutions do the ReLU behind them, where nobody else reads what lies between."""
    for operation in list(flow.operations):
        if operation.node.layer.type != "Convolution" or len(operation.writes) != 1:
            continue
        after = flow.reader(operation.writes[0])
        if after is not None and isinstance(after.node.layer, ReLU) and not after.node.layer.slope:
            operation.relu, operation.writes = True, after.writes
            flow.operations.remove(after)


def needed_for(flow: Flow, values: Sequence[int]) -> list[Operation]:
    """The operations that some values are made by, in order."""
    wanted, kept = set(values), []
    for operation in reversed(flow.operations):
        if wanted.intersection(operation.writes):
            kept.append(operation)
            wanted.update(operation.reads)
    return kept[::-1]
