"""The update rules: from a gradient to what is subtracted from the parameter (Caffe: ComputeUpdateValue).

Each rule turns ``diff``, the regularised gradient, into the update, in place, and keeps its history. All tensors of a
parameter have one shape; ``rate`` is the learning rate times the parameter's lr_mult. The rules go value by value, so
that a parameter may come in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch

from prototxt.caffe_pb2 import SolverParameter
from prototxt.errors import nearest

_rules: dict[str, type[Rule]] = {}


def rule(name: str) -> Callable[[type[Rule]], type[Rule]]:
    """Register a rule under Caffe's name for the solver's type."""

    def register(cls: type[Rule]) -> type[Rule]:
        _rules[name] = cls
        return cls

    return register


def find_rule(name: str) -> type[Rule] | None:
    """The rule of a solver's type, or None."""
    return _rules.get(name)


def unknown_rule(name: str) -> str:
    """What to say of a solver's type that does not exist."""
    hint = nearest(name, _rules)
    return f"`type: {name!r}`; expected one of {', '.join(_rules)}" + (f"; {hint}" if hint else "")


class Rule:
    """One rule, with the numbers of its solver."""

    histories: ClassVar[int] = 1
    """How many tensors of history a parameter has."""
    takes_momentum: ClassVar[bool] = True

    def __init__(self, param: SolverParameter) -> None:
        self.momentum, self.delta = param.momentum, param.delta
        self.decay, self.momentum2 = param.rms_decay, param.momentum2

    @classmethod
    def problems(cls, param: SolverParameter) -> list[str]:
        """What the rule cannot be used with."""
        if param.momentum and not cls.takes_momentum:
            return [f"`momentum: {param.momentum:g}` with `type: {param.type!r}`, which has none; take it out"]
        return []

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Turn the gradient into the update, in place."""
        raise NotImplementedError


@rule("SGD")
class SGD(Rule):
    """h = momentum h + rate g, which is the update: the rate goes into the history."""

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Take a step."""
        (h,) = history
        h.mul_(self.momentum).add_(diff, alpha=rate)
        diff.copy_(h)


@rule("Nesterov")
class Nesterov(Rule):
    """h' = momentum h + rate g; the update is (1 + momentum) h' - momentum h."""

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Take a step."""
        (h,) = history
        before = h.mul(self.momentum)
        torch.add(before, diff, alpha=rate, out=h)
        torch.sub(h, before, out=diff).add_(h, alpha=self.momentum)


@rule("AdaGrad")
class AdaGrad(Rule):
    """h = h + g²; the update is rate g / (sqrt(h) + delta)."""

    takes_momentum = False

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Take a step."""
        (h,) = history
        h.addcmul_(diff, diff)
        diff.mul_(rate).div_(h.sqrt().add_(self.delta))


@rule("RMSProp")
class RMSProp(Rule):
    """h = rms_decay h + (1 - rms_decay) g²; the update is rate g / (sqrt(h) + delta)."""

    takes_momentum = False

    @classmethod
    def problems(cls, param: SolverParameter) -> list[str]:
        """No momentum, and a decay below 1."""
        wrong = not 0 <= param.rms_decay < 1
        return super().problems(param) + (
            [f"`rms_decay: {param.rms_decay:g}`; expected 0 or more and below 1"] if wrong else []
        )

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Take a step."""
        (h,) = history
        h.mul_(self.decay).addcmul_(diff, diff, value=1 - self.decay)
        diff.mul_(rate).div_(h.sqrt().add_(self.delta))


@rule("AdaDelta")
class AdaDelta(Rule):
    """Two means that decay with the momentum: of g², and of the steps before their rate."""

    histories = 2

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Take a step."""
        of_gradients, of_steps = history
        of_gradients.mul_(self.momentum).addcmul_(diff, diff, value=1 - self.momentum)
        diff.mul_(((of_steps + self.delta) / (of_gradients + self.delta)).sqrt_())
        of_steps.mul_(self.momentum).addcmul_(diff, diff, value=1 - self.momentum)
        diff.mul_(rate)


@rule("Adam")
class Adam(Rule):
    """Kingma and Ba (2015), with delta added to the root before its bias is corrected, as Caffe does."""

    histories = 2

    def update(self, diff: torch.Tensor, history: Sequence[torch.Tensor], rate: float, iteration: int) -> None:
        """Take a step."""
        first, second = history
        first.mul_(self.momentum).add_(diff, alpha=1 - self.momentum)
        second.mul_(self.momentum2).addcmul_(diff, diff, value=1 - self.momentum2)
        t = iteration + 1
        correction = math.sqrt(1 - self.momentum2**t) / (1 - self.momentum**t)
        torch.div(first, second.sqrt().add_(self.delta), out=diff).mul_(rate * correction)
