"""Which layers run backward, and which bottoms and parameters get a gradient (Caffe: Net::Init)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffe_compat.graph import Graph

_POSITIVE_RATE = ("segnet",)
"""Dialects in which only a positive lr_mult asks for a gradient; elsewhere any but zero does."""


def mark_gradients(graph: Graph) -> None:
    """Set ``needs_backward``, ``propagate_down`` and the parameters' ``needs_diff`` on every node."""
    _ask_forward(graph)
    _prune_backward(graph)
    if graph.message.force_backward:
        _force(graph)
    for node in graph.nodes:
        if node.needs_backward and node.layer.ignores_propagate_down:
            node.propagate_down = [True] * len(node.bottoms)
            for param in node.params:
                param.needs_diff = True


def _ask_forward(graph: Graph) -> None:
    """From the inputs on: a blob needs a gradient when something before it can learn."""
    wanted: set[str] = set()
    only_positive = graph.dialect in _POSITIVE_RATE
    for node in graph.nodes:
        written = list(node.message.propagate_down)
        node.propagate_down = [bottom in wanted for bottom in node.bottoms]
        if written:
            both = [old and new for old, new in zip(node.propagate_down, written, strict=False)]
            node.propagate_down = both if only_positive else written[: len(node.bottoms)]
        for param in node.params:
            rate = param.settings.lr_mult
            param.needs_diff = rate > 0 if only_positive else rate != 0
        node.needs_backward = any(bottom in wanted for bottom in node.bottoms) or any(p.needs_diff for p in node.params)
        if node.needs_backward:
            wanted.update(node.tops)


def _prune_backward(graph: Graph) -> None:
    """From the losses back: layers that lead to no loss, or only to stopped gradients, do not run."""
    under_loss: set[str] = set()
    skipped: set[str] = set()
    for node in reversed(graph.nodes):
        contributes = any(node.loss_weights) or any(top in under_loss for top in node.tops)
        stopped = all(top in skipped for top in node.tops)
        if node.needs_backward and stopped:
            node.needs_backward = False
            node.propagate_down = [False] * len(node.bottoms)
        if contributes:
            under_loss.update(node.bottoms)
        else:
            node.needs_backward = False
            node.propagate_down = [False] * len(node.bottoms)
        skipped.update(bottom for bottom, down in zip(node.bottoms, node.propagate_down, strict=True) if not down)


def _force(graph: Graph) -> None:
    for node in graph.nodes:
        node.needs_backward = True
        node.propagate_down = [down or node.layer.may_force_backward(i) for i, down in enumerate(node.propagate_down)]
        for param in node.params:
            param.needs_diff = True
