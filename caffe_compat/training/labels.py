"""Looking at every label before a training begins, so that it does not stop in the middle of the first epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from caffe_compat.data.source import Source
from caffe_compat.data_layer import DataLayer
from caffe_compat.errors import SolverError
from caffe_compat.graph import Node
from caffe_compat.net import Net

_SHOWN = 10


class _Labels(NamedTuple):
    """Labels that a loss takes straight from a data layer."""

    loss: Node
    source: Source
    top: int
    classes: int
    ignored: int | None


def check_labels(net: Net, progress: Callable[..., Iterator[int]] = tqdm) -> int:
    """Look at every label that a loss will see. Only losses have a rule: Accuracy counts a strange label as wrong.

    Args:
        net: the training net. Labels that come otherwise than straight from a data layer are looked at as they come.
        progress: wraps the numbers of the entries, as tqdm does.

    Returns:
        How many entries were looked at.

    Raises:
        SolverError: with the files that hold labels outside the classes, the values and their counts.
    """
    count = 0
    for labels in _labels(net):
        wrong: dict[str, str] = {}
        total = len(labels.source)
        for index in progress(range(total), desc="looking at the labels", leave=False, disable=None):
            values, file = labels.source.labels(index, labels.top)
            if told := _outside(np.asarray(values), labels.classes, labels.ignored):
                wrong[str(file)] = told
        count += total
        if wrong:
            raise SolverError(_describe(labels, wrong, total))
    return count


def _labels(net: Net) -> Iterator[_Labels]:
    makers = {top: node for node in net.graph.nodes for top in node.tops}
    for node in net.graph.nodes:
        rule = node.layer.label_rule()
        if rule is None or not any(node.loss_weights):
            continue
        name = node.bottoms[1]
        while makers[name].layer.type == "Split":
            name = makers[name].bottoms[0]
        maker = makers[name]
        if isinstance(maker.layer, DataLayer) and maker.layer.source is not None and maker.layer.missing is None:
            yield _Labels(node, maker.layer.source, maker.tops.index(name), *rule)


def _outside(values: np.ndarray, classes: int, ignored: int | None) -> str:
    """The values that are no class, with their counts; empty where there are none."""
    whole = values.astype(np.int64)  # Caffe truncates labels
    wrong = (whole < 0) | (whole >= classes)
    if ignored is not None:
        wrong &= whole != ignored
    if not wrong.any():
        return ""
    found, counts = np.unique(whole[wrong], return_counts=True)
    return ", ".join(f"{value} ({n} times)" for value, n in zip(found, counts, strict=True))


def _describe(labels: _Labels, wrong: dict[str, str], total: int) -> list[str]:
    rule = f"0 to {labels.classes - 1}" + ("" if labels.ignored is None else f", or {labels.ignored}, which is ignored")
    lines = [f"{labels.loss.where}: {len(wrong)} of {total} labels hold values outside the classes; expected {rule}"]
    lines += [f"{file}: {told}" for file, told in list(wrong.items())[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"and {len(wrong) - _SHOWN} more")
    return lines
