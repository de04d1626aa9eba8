"""A net held against a record while it runs: layer by layer with pooling positions forced, and end to end.

What Caffe chose in a near-tie of a pooling window cannot be told from rounding, and moves a value to another place in
the decoder. So each pooling layer takes the recorded positions, and Dropout lets pass what it let pass there. Blobs
that were recorded whole replace the computed ones, so that the next layer starts from the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.graph import Node
from converters.causes import Seen, causes, differing_weights
from converters.deviations import COUNTED, GRADIENT_TOLERANCE, NEAR_TIES, TOLERANCE, Row, bare, deviation, differing
from converters.differences import numbered
from converters.gradient_check import compare_gradients
from converters.record_file import Expected, Record, Stage
from prototxt.errors import FormatError

_CHOOSE = ("ArgMax", "Threshold")
_COUNT = ("Accuracy", "SegAccuracy")


class _Replaced(torch.autograd.Function):
    """Recorded values in place of computed ones, with the gradient of the computed ones."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, computed: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class Comparison:
    """Holds a net against a record.

    Args:
        net: the net, built for the record's input shapes.
        record: what is right.
        tolerance: of a layer's values, as a share of the largest recorded value of the blob.
        gradient_tolerance: of a gradient, likewise.

    Attributes:
        rows: what was compared, in order.
        gradients: the same of gradients, in the order of backward.
        only: layers that only one side has, and what else could not be compared.
        weights: layers whose parameters are not those of the record, with what differs.
        labels: the share of labels that are the recorded ones, once they were compared.
    """

    def __init__(
        self, net: Net, record: Record, tolerance: float = TOLERANCE, gradient_tolerance: float = GRADIENT_TOLERANCE
    ) -> None:
        self.net, self.record = net, record
        self.tolerance, self.gradient_tolerance = tolerance, gradient_tolerance
        self.rows: list[Row] = []
        self.gradients: list[Row] = []
        self.only: list[str] = []
        self.labels: float | None = None
        self._deviating: set[str] = set()
        self.stages = self._match()
        self.weights = differing_weights(net, record)

    def _match(self) -> dict[int, Stage]:
        """Node → its stage, by name; of several of one name in their order."""
        nodes = [(i, node.layer.name) for i, node in enumerate(self.net.graph.nodes) if _computes(node)]
        ours = dict(zip(numbered([name for _, name in nodes]), (i for i, _ in nodes), strict=True))
        theirs = dict(zip(numbered([stage.name for stage in self.record.stages]), self.record.stages, strict=True))
        self.only = [f"layer {key[0]!r} is only in the record" for key in theirs if key not in ours]
        self.only += [f"layer {key[0]!r} is not in the record" for key in ours if key not in theirs]
        return {ours[key]: stage for key, stage in theirs.items() if key in ours}

    # ---- layer by layer

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the net runs forward once, in either face: compare every layer, and force what the record has whole."""
        handles = []
        for i, node in enumerate(self.net.graph.nodes):
            if not node.layer.is_source:
                seen: list[torch.Tensor] = []
                handles.append(node.layer.register_forward_pre_hook(partial(self._before, node, seen)))
                handles.append(node.layer.register_forward_hook(partial(self._after, i, node, seen)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, node: Node, seen: list[torch.Tensor], layer: torch.nn.Module, args: tuple) -> None:
        seen[:] = [arg.clone() if node.layer.in_place else arg for arg in args]

    def _after(
        self, index: int, node: Node, seen: list[torch.Tensor], layer: torch.nn.Module, args: tuple, out: object
    ) -> object:
        outs = list(out) if isinstance(out, tuple) else [out]
        stage = self.stages.get(index)
        inherited = any(bottom in self._deviating for bottom in node.bottoms)
        self._deviating.difference_update(node.tops)
        if stage is None:
            self._deviating.update(node.tops if inherited else [])
            return out
        self._force_dropout(node, stage, seen, outs)
        recorded: dict[int, torch.Tensor] = {}
        for j, (top, values) in enumerate(zip(node.tops[: len(stage.tops)], outs, strict=False)):
            if self.record.has_mask(stage, j):
                continue
            want = self.record.expected(f"top/{stage.index}/{j}", stage.shapes[j])
            row = self._add(node, f"blob {top!r}", *self._judge(node, values, want), inherited)
            if row.bad and not inherited:
                row.reasons += causes(Seen(node, stage, seen, values, want), self.record, self.weights)
            if want.positions is None and bare(values.shape) == bare(want.shape):
                recorded[j] = torch.from_numpy(want.values).to(values).view(values.shape)
            elif row.bad:
                self._deviating.add(top)
        if len(outs) == 2 and len(stage.tops) == 2 and self.record.has_mask(stage, 1):
            self._force_positions(node, stage, seen[0], outs, inherited)
        for j, values in recorded.items():
            outs[j] = _Replaced.apply(outs[j], values) if outs[j].requires_grad else values
        seen.clear()
        return tuple(outs) if isinstance(out, tuple) else outs[0]

    def _judge(self, node: Node, values: torch.Tensor, want: Expected) -> tuple[float, float]:
        """How far a top deviates, and how far it may."""
        if node.layer.type in _CHOOSE:
            return differing(values, want), max(NEAR_TIES, 1 / want.values.size)
        return deviation(values, want), COUNTED if node.layer.type in _COUNT else self.tolerance

    def _add(self, node: Node, what: str, found: float, allowed: float, inherited: bool) -> Row:
        row = Row(node.layer.name, node.layer.type, what, found, allowed, inherited)
        self.rows.append(row)
        return row

    def _force_dropout(self, node: Node, stage: Stage, seen: list[torch.Tensor], outs: list[torch.Tensor]) -> None:
        """What Dropout let pass in the record, in place of the net's own choice."""
        kept = self.record.kept(stage, 0) if node.layer.type.startswith("Dropout") and stage.tops else None
        if kept is not None and kept.shape == tuple(seen[0].shape):
            outs[0] = seen[0] * torch.from_numpy(kept).to(seen[0]) / (1 - node.layer.ratio)

    def _force_positions(
        self, node: Node, stage: Stage, x: torch.Tensor, outs: list[torch.Tensor], inherited: bool
    ) -> None:
        """The recorded positions of pooling, and the values there, in place of the net's own."""
        mask = torch.from_numpy(self.record.mask(stage, 1)).to(x.device)
        if mask.shape != outs[1].shape:
            self._deviating.add(node.tops[1])  # the blob of the values has told of its shape
            return
        x = x.flatten(2)
        if mask.min() < -1 or mask.max() >= x.shape[2]:
            raise FormatError(f"{self.record.path}: positions of {stage.name!r} lie outside their plane; record anew")
        other = int((mask != outs[1]).sum())
        allowed = max(NEAR_TIES, 1 / mask.numel())
        row = self._add(node, f"positions {node.tops[1]!r}", other / mask.numel(), allowed, inherited)
        if row.bad:
            row.reasons.append(f"{other:,} of {mask.numel():,} windows chose another position")
        chosen = torch.where(mask < 0, outs[0], x.gather(2, mask.clamp(min=0).flatten(2)).view_as(outs[0]))
        gap = float((outs[0] - chosen).detach().abs().max()) / max(float(outs[0].detach().abs().max()), 1e-30)
        row = self._add(node, f"values at {node.tops[1]!r}", gap, self.tolerance, inherited)
        if row.bad:
            row.reasons.append("the recorded positions are not those of the largest values")
            self._deviating.add(node.tops[0])
        outs[:] = [chosen, mask.to(outs[1])]

    # ---- whole passes of the pycaffe face

    def _feed(self) -> None:
        inputs = self.record.inputs
        missing = [name for name in self.net.graph.feeds if name not in inputs]
        if missing:
            raise NetError(f"{self.record.path}: no values for the net's input {missing[0]!r}; expected some")
        for name in self.net.graph.feeds:
            self.net.blobs[name].reshape(*inputs[name].shape)
            self.net.blobs[name].data[...] = inputs[name]
        self.net.reshape()

    def _run(self) -> None:
        for i, node in enumerate(self.net.graph.nodes):
            if not node.layer.is_source:
                self.net._forward(i, i)

    def run(self) -> None:
        """Forward layer by layer, and backward where the record has gradients.

        Raises NetError where the net cannot be fed. A layer that cannot run after others deviated ends the pass.
        """
        self.net.keeps_graph = bool(self.record.gradients)
        self._feed()
        with self.watching():
            try:
                self._run()
            except NetError as error:
                if not any(row.bad for row in self.rows):
                    raise
                self.only.append(f"the pass ended early: {error}")
                return
        if self.record.gradients:
            self.gradients = compare_gradients(self.net, self.record, self.gradient_tolerance)
            for row in self.gradients:  # after other values other gradients are no surprise
                row.inherited |= any(one.bad for one in self.rows)

    @property
    def scores_at(self) -> tuple[int, int] | None:
        """Node and top of the scores whose labels were recorded; None where no labels can be compared."""
        if self.record.labels_of is None or self.record.is_random:
            return None
        layer, top = self.record.labels_of
        nodes = [i for i, stage in self.stages.items() if stage.index == layer]
        return (nodes[0], top) if nodes and 0 <= top < len(self.net.graph.nodes[nodes[0]].tops) else None

    def end_to_end(self) -> None:
        """Forward without any help, for the share of labels that are the recorded ones."""
        if self.scores_at is None:
            return
        node, top = self.scores_at
        self.net.keeps_graph = False
        self._feed()
        try:
            self._run()
        except NetError:
            self.labels = 0.0  # a layer by layer run says why
            return
        self.compare_labels(self.net.blobs[self.net.graph.nodes[node].tops[top]].data)

    def compare_labels(self, scores: np.ndarray) -> None:
        """Take the share of labels that scores (N, C, …) have in common with the record."""
        labels, recorded = scores.argmax(axis=1), self.record.labels()
        self.labels = float((labels == recorded).mean()) if labels.shape == recorded.shape else 0.0


def _computes(node: Node) -> bool:
    return bool(node.bottoms) and node.layer.type != "Split"
