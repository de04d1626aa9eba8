"""One forward and backward pass of a training net: as Caffe leaves everything behind, or leaner.

A lean pass runs the net as a torch module: blobs inside the net are freed as soon as they can be, so only the outputs
can be looked at afterwards, and gradients are the true ones (Caffe's differ for BN INFERENCE in place alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from caffe_compat.errors import SolverError
from caffe_compat.graph import Node
from caffe_compat.layer_base import recomputing
from caffe_compat.training.loss_scale import LossScale

if TYPE_CHECKING:
    from caffe_compat.net import Net

Pass = Callable[["Net", Callable[[float], None]], float]
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_pass(
    precision: str = "fp32",
    channels_last: bool = False,
    checkpointing: bool = False,
    loss_scale: LossScale | None = None,
) -> Pass:
    """The pass that was asked for: a function of the net and of a check of the loss, which gives the loss.

    Args:
        precision: ``fp32``; ``bf16`` or ``fp16`` compute convolutions and products in half precision (torch's
            autocast); parameters, gradients and history stay in float32.
        channels_last: lay images out with the channels innermost, which convolutions prefer.
        checkpointing: keep some blobs alone for the backward pass and compute the others anew.
        loss_scale: for fp16, what keeps its gradients in range.

    Raises:
        SolverError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise SolverError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if precision == "fp32" and not channels_last and not checkpointing:
        return faithful
    return _Lean(PRECISIONS[precision], channels_last, checkpointing, loss_scale)


def faithful(net: Net, check: Callable[[float], None]) -> float:
    """Layer by layer as Caffe does; every blob and every gradient stays."""
    last = len(net.layers) - 1
    loss = net._forward(0, last)
    check(loss)
    net._backward(last, 0)
    return loss


class _Lean:
    """See ``make_pass``."""

    def __init__(
        self, dtype: torch.dtype | None, channels_last: bool, checkpointing: bool, loss_scale: LossScale | None
    ) -> None:
        self.dtype, self.channels_last, self.checkpointing = dtype, channels_last, checkpointing
        self.loss_scale = loss_scale

    def __call__(self, net: Net, check: Callable[[float], None]) -> float:
        """Forward and backward."""
        net._move()
        overwritten = [node.layer for node in net.graph.nodes if node.layer.overwrites_param_diffs]
        device = net._anchor.tensor.device.type
        half = torch.autocast(device, self.dtype) if self.dtype is not None else nullcontext()
        with torch.enable_grad(), half:
            outputs = self._run(net)
        weights = net.blob_loss_weights
        losses = [weights[name] * top.sum() for name, top in outputs.items() if weights[name]]
        total = sum(losses)
        for name, top in outputs.items():
            net.blobs[name].put_data(top.detach().float())
        loss = float(total.detach()) if isinstance(total, torch.Tensor) else 0.0
        check(loss)
        for layer in overwritten:  # what an earlier pass of the same iteration left there
            for blob in layer.blobs:
                blob.diff_tensor().zero_()
        if isinstance(total, torch.Tensor) and total.requires_grad:
            if self.loss_scale is None:
                total.backward()
            else:
                self.loss_scale.backward(total, [param for param in net.parameters() if param.requires_grad])
        return loss

    def _run(self, net: Net) -> dict[str, torch.Tensor]:
        """The outputs of the net, from its own data."""
        nodes = net.graph.nodes
        sources = [node for node in nodes if node.layer.is_source]
        by_hand = [*net.graph.inputs, *(top for node in sources if node.layer.type == "Input" for top in node.tops)]
        values = {name: net.blobs[name].data_tensor() for name in by_hand}
        for node in sources:
            if node.layer.type != "Input":
                values.update(zip(node.tops, net.run_source(node), strict=True))
        if self.channels_last:
            values = {name: _channels_last(value) for name, value in values.items()}
        net._fit({name: tuple(value.shape) for name, value in values.items()})
        others = [node for node in nodes if not node.layer.is_source]
        for segment, needed in _segments(others, net.graph.outputs, self.checkpointing):
            values = self._segment(net, segment, values, needed)
        return {name: values[name] for name in net.graph.outputs if name in values}

    def _segment(
        self, net: Net, nodes: list[Node], values: dict[str, torch.Tensor], needed: set[str]
    ) -> dict[str, torch.Tensor]:
        """Run some layers. Gives the blobs that later ones, or the caller, need."""
        names = list(values)
        kept: list[str] = []

        def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            live = dict(zip(names, tensors, strict=True))
            for node in nodes:
                wanted = zip(node.bottoms, node.propagate_down, strict=True)
                outs = net._call(
                    node, node.layer, *(live[name] if down else live[name].detach() for name, down in wanted)
                )
                live.update(zip(node.tops, outs, strict=True))
            kept[:] = [name for name in live if name in needed]
            return tuple(live[name] for name in kept)

        if not self.checkpointing:
            outs = run(*values.values())
        else:
            outs = checkpoint(
                run, *values.values(), use_reentrant=False, context_fn=lambda: (nullcontext(), recomputing())
            )
        return dict(zip(kept, outs, strict=True))


def _channels_last(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


def _segments(nodes: list[Node], outputs: list[str], several: bool) -> Iterator[tuple[list[Node], set[str]]]:
    """Layers to run together, and what is needed of them afterwards; about as many segments as layers in each."""
    size = round(len(nodes) ** 0.5) if several else 1
    last_reader = {name: i for i, node in enumerate(nodes) for name in node.bottoms}
    for start in range(0, len(nodes), size):
        end = start + size
        later = {name for name, reader in last_reader.items() if reader >= end}
        yield nodes[start:end], later | set(outputs)
