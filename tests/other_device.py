"""A device that every machine has and that is not the CPU, to see what a GPU would refuse.

torch's ``meta`` tensors have shapes and no values. Here they are held to what CUDA asks for: tensors that meet in an
operator lie on one device. Where values are asked for, a GPU would have to be waited for; they are answered, and noted.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "meta"
_PROJECT = Path(__file__).parents[1]
_aten = torch.ops.aten


class Watch(TorchDispatchMode):
    """While it lasts: an AssertionError where the CPU and the other device meet.

    ``moves`` and ``waits`` are the places in the project where something goes from one device to the other, and where
    the other is waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[str] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if func in (_aten._to_copy.default, _aten.copy_.default):
            source, target = tensors[-1].device, torch.device(kwargs.get("device") or tensors[0].device)
            if source.type != target.type:
                self.moves.append(_place())
                if target.type == "cpu":  # no values come from there: ones
                    return torch.ones_like(tensors[0], device="cpu", dtype=kwargs.get("dtype"))
            return func(*args, **kwargs)
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}  # CUDA takes single values from the CPU
        assert len(devices) < 2, f"{func} of tensors on {' and '.join(sorted(devices))}"
        if DEVICE in {tensor.device.type for tensor in tensors} and func in _ANSWERS:
            answer = _ANSWERS[func](*args)
            if answer is not None:
                self.waits.append(_place())
                return answer
        return func(*args, **kwargs)


def _masked(x: torch.Tensor, indices: list[torch.Tensor | None]) -> torch.Tensor | None:
    mask = indices[0]
    return x.new_empty(0, *x.shape[mask.dim() :]) if mask is not None and mask.dtype == torch.bool else None


# What hangs on values: a condition does not hold, a number is 1, nothing is chosen, nothing is counted.
_ANSWERS = {
    _aten._local_scalar_dense.default: lambda x: False if x.dtype == torch.bool else 1,
    _aten.nonzero.default: lambda x: x.new_empty(0, x.dim(), dtype=torch.int64),
    _aten.index.Tensor: _masked,
    _aten.bincount.default: lambda x, weights=None, minlength=0: x.new_empty(minlength, dtype=torch.int64),
}


def _place() -> str:
    """The line of the project that runs."""
    for line in reversed(traceback.extract_stack()):
        path = Path(line.filename)
        if path.is_relative_to(_PROJECT) and "site-packages" not in path.parts and line.filename != __file__:
            return f"{path.relative_to(_PROJECT)}: {line.line}"
    return "?"
