"""What ``debug_info`` logs of every pass, in Caffe's words: the mean absolute value of each blob."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import torch

from caffe_compat.blob import Blob
from caffe_compat.graph import Node

log = logging.getLogger(__name__)


def tell_forward(node: Node, blobs: Mapping[str, Blob]) -> None:
    """The tops of a layer that has just run."""
    _tell("Forward", node, "data", (("top blob", top, blobs[top].data_tensor()) for top in node.tops))


def tell_backward(node: Node, blobs: Mapping[str, Blob]) -> None:
    """The gradients that a layer has just passed on, to bottoms and to parameters."""
    passed = [name for name, down in zip(node.bottoms, node.propagate_down, strict=True) if down]
    params = [(str(i), param) for i, param in enumerate(node.layer.blobs) if param.needs_diff]
    _tell("Backward", node, "diff", (("bottom blob", name, blobs[name].diff_tensor()) for name in passed))
    _tell("Backward", node, "diff", (("param blob", name, param.diff_tensor()) for name, param in params))


def _tell(which: str, node: Node, half: str, told: Iterable[tuple[str, str, torch.Tensor]]) -> None:
    for what, name, tensor in told:
        mean = float(tensor.abs().mean()) if tensor.numel() else 0.0
        log.info("    [%s] Layer %s, %s %s %s: %.6g", which, node.layer.name, what, name, half, mean)
