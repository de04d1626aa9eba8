"""Split layers for blobs with more than one consumer, under Caffe's names (Caffe: insert_splits)."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from prototxt.caffe_pb2 import LayerParameter, NetParameter


class Source(NamedTuple):
    """Where a blob's current content comes from: layer index (-1 for an input of the net) and top index."""

    layer: int
    top: int


def _consumers(net: NetParameter) -> tuple[dict[tuple[int, int], Source], Counter[Source], dict[Source, float]]:
    """Which source each bottom reads, how often each source is read, and the loss weights that count as a reader."""
    latest = {name: Source(-1, i) for i, name in enumerate(net.input)}
    reads: dict[tuple[int, int], Source] = {}
    count: Counter[Source] = Counter()
    weights: dict[Source, float] = {}
    for i, layer in enumerate(net.layer):
        for j, name in enumerate(layer.bottom):
            if name in latest:
                reads[i, j] = latest[name]
                count[latest[name]] += 1
        for j, name in enumerate(layer.top):
            latest[name] = Source(i, j)
            if j < len(layer.loss_weight) and layer.loss_weight[j]:
                weights[latest[name]] = layer.loss_weight[j]
                count[latest[name]] += 1
    return reads, count, weights


def insert_splits(net: NetParameter) -> tuple[NetParameter, list[int | None]]:
    """The net with Split layers, and for each of its layers the index it had before (None for a Split).

    Bottoms that no layer makes are left as they are.
    """
    reads, count, weights = _consumers(net)
    used: Counter[Source] = Counter()
    result = NetParameter()
    result.CopyFrom(net)
    del result.layer[:]
    origins: list[int | None] = []

    def names(source: Source) -> tuple[str, str]:
        """The layer that makes a source and the blob's name."""
        if source.layer < 0:
            return "input", net.input[source.top]
        return net.layer[source.layer].name, net.layer[source.layer].top[source.top]

    def split_top(source: Source, index: int) -> str:
        producer, blob = names(source)
        return f"{blob}_{producer}_{source.top}_split_{index}"

    def add_split(source: Source) -> None:
        producer, blob = names(source)
        split = result.layer.add(name=f"{blob}_{producer}_{source.top}_split", type="Split", bottom=[blob])
        split.top.extend(split_top(source, i) for i in range(count[source]))
        if source in weights:  # the weight moves to the first copy, which nobody else reads
            split.loss_weight.extend([weights[source], *[0.0] * (count[source] - 1)])
            used[source] += 1
        origins.append(None)

    for i in range(len(net.input)):
        if count[Source(-1, i)] > 1:
            add_split(Source(-1, i))
    for i, original in enumerate(net.layer):
        layer: LayerParameter = result.layer.add()
        layer.CopyFrom(original)
        origins.append(i)
        for j in range(len(layer.bottom)):
            source = reads.get((i, j))
            if source is not None and count[source] > 1:
                layer.bottom[j] = split_top(source, used[source])
                used[source] += 1
        for j in range(len(layer.top)):
            if count[Source(i, j)] > 1:
                if Source(i, j) in weights:
                    layer.ClearField("loss_weight")
                add_split(Source(i, j))
    return result, origins
