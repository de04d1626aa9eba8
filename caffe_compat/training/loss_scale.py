"""Scaling of the loss for half floats (fp16), whose smallest gradients would round to zero (Micikevicius et al., 2018).

The scale is a power of two, so that nothing but the range changes, and falls out before anybody sees a gradient. Where
it is too large for a pass, that pass goes backward again with half of it: no iteration is left out, as Caffe has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_START = 2.0**16
_LARGEST = 2.0**24
_PATIENCE = 2000
"""Passes in a row that must fit before the scale is doubled."""


class LossScale:
    """The scale, and how many passes in a row it has fitted."""

    def __init__(self) -> None:
        self.scale = _START
        self.fitted = 0

    def backward(self, loss: torch.Tensor, params: Sequence[nn.Parameter]) -> None:
        """Add the gradients of a loss to those of the parameters, as ``loss.backward()`` does.

        What is not finite at the scale 1 either is added as it is.
        """
        while True:
            scaled = torch.autograd.grad(loss * self.scale, params, retain_graph=True, allow_unused=True)
            fits = all(bool(gradient.isfinite().all()) for gradient in scaled if gradient is not None)
            if fits or self.scale == 1:
                break
            self.scale, self.fitted = self.scale / 2, 0
        for param, gradient in zip(params, scaled, strict=True):
            if gradient is None:
                continue
            gradient = gradient / self.scale
            param.grad = gradient if param.grad is None else param.grad.add_(gradient)
        self.fitted += 1
        if self.fitted == _PATIENCE:
            self.scale, self.fitted = min(2 * self.scale, _LARGEST), 0

    def state(self) -> list[float]:
        """What a resumed training needs, for JSON."""
        return [self.scale, self.fitted]

    def load_state(self, state: Sequence[float]) -> None:
        """Go on from what ``state`` gave. Raises ValueError, TypeError for anything else."""
        scale, fitted = state
        if not 1 <= scale <= _LARGEST:
            raise ValueError(f"a loss scale of {scale}")
        self.scale, self.fitted = float(scale), int(fitted)
