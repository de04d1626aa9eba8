"""Gradients of a net held against those of a record."""

from __future__ import annotations

import torch

from caffe_compat import Net
from converters.deviations import Row, deviation
from converters.record import output_diff
from converters.record_file import Record


def compare_gradients(net: Net, record: Record, tolerance: float) -> list[Row]:
    """Run backward as the record did, after a forward pass with gradients, and compare every recorded gradient.

    Returns them from the last layer to the first, as backward runs; after the first that deviates the others count as
    inherited. The gradient of a bias before batch normalisation is nothing but rounding: it is judged beside that of
    the layer's weights.
    """
    net.clear_param_diffs()
    for name in record.output_diffs:
        if name in net.blobs:
            net.blobs[name].diff[...] = output_diff(name, tuple(net.blobs[name].shape))
    net._backward(len(net.layers) - 1, 0)
    types = {node.layer.name: node.layer.type for node in net.graph.nodes}
    largest: dict[str, float] = {}
    rows = []
    for number, (kind, name, index, shape) in enumerate(record.gradients):
        blobs = net.params.get(name, []) if kind == "param" else [net.blobs[name]] if name in net.blobs else []
        if index >= len(blobs):
            continue
        want = record.expected(f"gradient/{number}", shape)
        scale = 0.01 * largest.get(name, 0.0) if kind == "param" else 0.0
        largest[name] = max(largest.get(name, 0.0), want.scale)
        own = torch.from_numpy(blobs[index].diff)
        what = f"of blob {index}" if kind == "param" else "of the input"
        rows.append(Row(name, types.get(name, "input"), what, deviation(own, want, scale), tolerance))
    order = {node.layer.name: i for i, node in enumerate(net.graph.nodes)}
    rows.sort(key=lambda row: -order.get(row.layer, -1))
    first = next((row for row in rows if row.bad), None)
    for row in rows:
        row.inherited = first is not None and order.get(row.layer, -1) < order.get(first.layer, -1)
    return rows
