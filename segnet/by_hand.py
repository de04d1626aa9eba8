"""Training networks whose images and labels are put in by hand: for benchmarks, which need no files."""

from __future__ import annotations

from converters.translation_rules import data_to_input
from prototxt.caffe_pb2 import NetParameter
from prototxt.upgrade import to_current


def fed_by_hand(net: NetParameter, size: tuple[int, int]) -> NetParameter:
    """A training network with inputs ``data`` and ``label`` of (height, width) ``size`` in place of its data layer.

    Its accuracies are left out: they are no part of a training step.
    """
    layers = data_to_input(size)([(layer, []) for layer in net.layer if layer.type != "Accuracy"], [])
    return to_current(NetParameter(name=net.name, layer=[layer for layer, _ in layers]), "segnet")
