"""The parameters that a solver moves, and what happens to their gradients before a rule sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from caffe_compat.blob import ParamBlob
from caffe_compat.net import Net

_PIECE = 1 << 18  # values


class Learnable(NamedTuple):
    """A parameter blob of a net."""

    blob: ParamBlob
    layer: str
    index: int
    """Of the blob in its layer."""
    owner: int | None
    """For a parameter whose values are another's: the place of that one in the list."""


def learnables(net: Net) -> list[Learnable]:
    """The parameters in the order of Caffe's history.

    SegNet's fork goes through every layer's blobs, those that are shared once for each layer, with a history of its
    own each; BVLC Caffe through the owners alone.
    """
    places: dict[tuple[int, int], int] = {}
    found: list[Learnable] = []
    every_copy = net.dialect == "segnet"
    for number, node in enumerate(net.graph.nodes):
        for index, (param, blob) in enumerate(zip(node.params, node.layer.blobs, strict=True)):
            if param.owner is not None and not every_copy:
                continue
            places[number, index] = len(found)
            owner = None if param.owner is None else places[param.owner]
            found.append(Learnable(blob, node.layer.name, index, owner))
    return found


def clip(params: Sequence[Learnable], limit: float) -> tuple[float, float] | None:
    """Scale all gradients so that their common L2 norm is ``limit`` at most.

    Returns the norm and the factor where it was larger, None otherwise.
    """
    diffs = [param.blob.diff_tensor() for param in params if param.owner is None]
    norm = float(torch.stack([torch.linalg.vector_norm(diff) for diff in diffs]).norm()) if diffs else 0.0
    if not norm > limit:
        return None
    factor = limit / norm
    for diff in diffs:
        diff.mul_(factor)
    return norm, factor


def regularise(values: torch.Tensor, diff: torch.Tensor, decay: float, kind: str) -> None:
    """Add the gradient of the weight decay, of the ``kind`` L1 or L2, to a parameter's."""
    if decay:
        diff.add_(values.sign() if kind == "L1" else values, alpha=decay)


def pieces(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same values of each tensor, so few that one step after the other finds them in the cache.

    A parameter of 9 MB would come from memory anew for each of the five steps of an update. On a GPU, and where values
    do not lie in order, all at once.
    """
    if all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors):
        yield from zip(*(tensor.view(-1).split(_PIECE) for tensor in tensors), strict=True)
    else:
        yield tensors


def subtract(params: Sequence[Learnable]) -> None:
    """Take every update from its values; those of shared copies from the owner's."""
    for param in params:
        if param.owner is not None:
            owner = params[param.owner].blob.diff_tensor()
            owner.add_(param.blob.diff_tensor().view_as(owner))
    for param in params:
        if param.owner is None:
            param.blob.data_tensor().sub_(param.blob.diff_tensor())


def first_non_finite(params: Sequence[Learnable]) -> Learnable | None:
    """The first parameter whose gradient holds an infinity or a NaN."""
    diffs = [param.blob.diff_tensor() for param in params]
    # one pass over all; which one it was is only asked when there is one
    if not diffs or not bool(torch.stack([diff.sum() for diff in diffs]).isfinite().logical_not().any()):
        return None
    return next((param for param, diff in zip(params, diffs, strict=True) if not bool(diff.isfinite().all())), None)
