"""The learning rate of an iteration (Caffe: SGDSolver::GetLearningRate)."""

from __future__ import annotations

import math
from collections.abc import Callable

from caffe_compat.errors import SolverError
from prototxt.caffe_pb2 import SolverParameter
from prototxt.errors import nearest

Policy = Callable[[SolverParameter, int, int], float]
_policies: dict[str, Policy] = {}
#: Policy → the fields that it cannot do without.
_NEEDED = {"step": ("stepsize",), "poly": ("max_iter",)}


def policy(name: str) -> Callable[[Policy], Policy]:
    """Register a policy under Caffe's name."""

    def register(rate: Policy) -> Policy:
        _policies[name] = rate
        return rate

    return register


def check_policy(param: SolverParameter) -> list[str]:
    """What is wrong with the policy of a solver."""
    if param.lr_policy not in _policies:
        found = f"`lr_policy: {param.lr_policy!r}`" if param.HasField("lr_policy") else "no `lr_policy`"
        hint = nearest(param.lr_policy, _policies)
        return [f"{found}; expected one of {', '.join(sorted(_policies))}" + (f"; {hint}" if hint else "")]
    return [
        f"`lr_policy: {param.lr_policy!r}` without `{name}`; expected it, above 0"
        for name in _NEEDED.get(param.lr_policy, ())
        if getattr(param, name) <= 0
    ]


def learning_rate(param: SolverParameter, iteration: int, current_step: int) -> float:
    """The rate of an iteration, counted from 0.

    Args:
        param: the solver's message, which ``check_policy`` finds nothing wrong with.
        iteration: of the step to come.
        current_step: what ``next_step`` gave for it.

    Raises:
        SolverError: the numbers give no finite rate.
    """
    try:
        rate = _policies[param.lr_policy](param, iteration, current_step)
    except (OverflowError, ValueError):
        rate = math.nan
    if not math.isfinite(rate):
        raise SolverError(
            f"the learning rate of iteration {iteration} is {rate}; expected a number. Look at `base_lr`, `gamma` and "
            "`power`"
        )
    return rate


def next_step(param: SolverParameter, iteration: int, current_step: int) -> int:
    """How many steps of the rate are past at an iteration: what a solver state holds as ``current_step``."""
    if param.lr_policy == "step":
        return iteration // param.stepsize
    if param.lr_policy == "multistep" and current_step < len(param.stepvalue):
        return current_step + (iteration >= param.stepvalue[current_step])  # one at most in an iteration, as in Caffe
    return current_step


@policy("fixed")
def _fixed(param: SolverParameter, iteration: int, current_step: int) -> float:
    return param.base_lr


@policy("step")
@policy("multistep")
def _step(param: SolverParameter, iteration: int, current_step: int) -> float:
    return param.base_lr * math.pow(param.gamma, current_step)


@policy("exp")
def _exp(param: SolverParameter, iteration: int, current_step: int) -> float:
    return param.base_lr * math.pow(param.gamma, iteration)


@policy("inv")
def _inv(param: SolverParameter, iteration: int, current_step: int) -> float:
    return param.base_lr * math.pow(1 + param.gamma * iteration, -param.power)


@policy("poly")
def _poly(param: SolverParameter, iteration: int, current_step: int) -> float:
    return param.base_lr * math.pow(max(0.0, 1 - iteration / param.max_iter), param.power)


@policy("sigmoid")
def _sigmoid(param: SolverParameter, iteration: int, current_step: int) -> float:
    return param.base_lr / (1 + math.exp(-param.gamma * (iteration - param.stepsize)))
