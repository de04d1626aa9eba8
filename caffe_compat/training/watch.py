"""Stopping a training that has gone wrong where it went wrong: at the first value that is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffe_compat.errors import SolverError
from caffe_compat.training.learnable import Learnable, first_non_finite

if TYPE_CHECKING:
    from caffe_compat.net import Net
    from caffe_compat.training.solver import Solver


def check_loss(solver: Solver, loss: float) -> None:
    """Raise SolverError for a loss that is not finite, naming the first blob that is not."""
    if math.isfinite(loss):
        return
    where, blob = _first_blob(solver.net)
    found = f"blob {blob!r} is the first to hold values that are not finite" if blob else f"the loss is {loss}"
    raise SolverError(f"iteration {solver.iter}: {where}: {found}; {_cause(solver, blob)}")


def check_gradients(solver: Solver, params: Sequence[Learnable]) -> None:
    """Raise SolverError for the first parameter whose gradient is not finite."""
    wrong = first_non_finite(params)
    if wrong is not None:
        raise SolverError(
            f"iteration {solver.iter}: layer {wrong.layer!r}: the gradient of its blob {wrong.index} is not finite, "
            f"though every blob is; {_cause(solver, None)}"
        )


def _first_blob(net: Net) -> tuple[str, str | None]:
    """The place of the first layer with a top, or parameters, that are not finite, and that blob."""
    for node in net.graph.nodes:
        for blob in node.layer.blobs:
            if not bool(blob.data_tensor().isfinite().all()):
                return node.where, f"{node.layer.name} (its weights)"
        for top in node.tops:
            if not bool(net.blobs[top].data_tensor().isfinite().all()):
                return node.where, top
    return "the net", None


def _cause(solver: Solver, blob: str | None) -> str:
    """What it most likely comes from, and what to do."""
    sources = {top for node in solver.net.graph.nodes if node.layer.is_source for top in node.tops}
    if blob in sources:
        return "so it comes from the data: look at what this blob is read from"
    losses = [node for node in solver.net.graph.nodes if node.layer.is_loss]
    if any(blob in node.tops for node in losses):
        return (
            "its bottoms are finite. If every label of the batch is the ignored one, there is nothing to average over: "
            "look at `ignore_label` and the label images"
        )
    if solver.iter < 2:
        return (
            "this early it is mostly missing weights (weight_filler absent: all zero), weights of another net, or "
            "images that are not scaled as the net expects"
        )
    return f"the learning rate is {solver.lr:g}: try a tenth of it, or `clip_gradients`"
