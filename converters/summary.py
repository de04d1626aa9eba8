"""A network as a table: layers, shapes, parameters, multiply-adds, memory."""

from __future__ import annotations

import math

from tabulate import tabulate

from caffe_compat.graph import Graph

_BYTES = 4  # Caffe's float32


def human(number: float, unit: str = "") -> str:
    """A number in thousands, millions or billions: 29449355 -> ``29.4 M``."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:.1f} {prefix}{unit}"
    return f"{number:.0f}{' ' + unit if unit else ''}"


def summary(graph: Graph) -> str:
    """The table of a net's graph and a line of totals. Memory is that of the blobs a layer makes anew, in float32."""
    rows = []
    totals = [0, 0, 0]
    for node in graph.nodes:
        fresh = [shape for top, shape in zip(node.tops, node.top_shapes, strict=True) if top not in node.bottoms]
        shares = node.layer.type == "Split"
        numbers = (
            sum(math.prod(param.spec.shape) for param in node.params),
            node.multiply_adds,
            0 if shares else sum(math.prod(shape) for shape in fresh) * _BYTES,
        )
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        shapes = ", ".join("×".join(map(str, shape)) or "scalar" for shape in node.top_shapes)
        memory = "in place" if not fresh and node.tops else "shared" if shares else human(numbers[2], "B")
        rows.append([node.layer.name, node.layer.type, shapes, f"{numbers[0]:,}", human(numbers[1]), memory])
    rows.append(["total", "", "", f"{totals[0]:,}", human(totals[1]), human(totals[2], "B")])
    headers = ["layer", "type", "output", "parameters", "multiply-adds", "memory"]
    table = tabulate(rows, headers, colalign=("left", "left", "left", "right", "right", "right"), disable_numparse=True)
    parameters = f"{totals[0]:,} parameters ({human(totals[0] * _BYTES, 'B')})"
    return f"{table}\n{parameters}, {human(totals[1])} multiply-adds, {human(totals[2], 'B')} of blobs"
