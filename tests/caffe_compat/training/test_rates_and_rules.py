"""Learning rates and update rules by hand."""

import math

import numpy as np
import pytest
import torch

from caffe_compat.errors import SolverError
from caffe_compat.training.rates import check_policy, learning_rate, next_step
from caffe_compat.training.rules import find_rule
from prototxt.caffe_pb2 import SolverParameter


def rates(count, **fields):
    param = SolverParameter(base_lr=2, **fields)
    assert check_policy(param) == []
    found, step = [], 0
    for iteration in range(count):
        step = next_step(param, iteration, step)
        found.append(learning_rate(param, iteration, step))
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (dict(lr_policy="fixed"), [2, 2, 2, 2]),
        (dict(lr_policy="step", gamma=0.5, stepsize=2), [2, 2, 1, 1]),
        (dict(lr_policy="exp", gamma=0.5), [2, 1, 0.5, 0.25]),
        (dict(lr_policy="inv", gamma=1, power=2), [2, 2 / 4, 2 / 9, 2 / 16]),
        (dict(lr_policy="multistep", gamma=0.5, stepvalue=[1, 3]), [2, 1, 1, 0.5]),
        (dict(lr_policy="multistep", gamma=0.5, stepvalue=[1, 1]), [2, 1, 0.5, 0.5]),  # one step an iteration at most
        (dict(lr_policy="poly", power=2, max_iter=4), [2, 2 * 0.75**2, 0.5, 2 * 0.25**2]),
        (dict(lr_policy="sigmoid", gamma=-1, stepsize=1), [2 / (1 + math.exp(-1)), 1, 2 / (1 + math.e)]),
    ],
)
def test_rates(fields, expected):
    assert rates(len(expected), **fields) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(lr_policy="stepp"), "did you mean 'step'"),
        ({}, "no `lr_policy`; expected one of exp, fixed"),
        (dict(lr_policy="step"), "without `stepsize`"),
        (dict(lr_policy="poly"), "without `max_iter`"),
    ],
)
def test_wrong_policies(fields, said):
    assert said in check_policy(SolverParameter(base_lr=1, **fields))[0]


@pytest.mark.parametrize("fields", [dict(lr_policy="exp", gamma=1e30), dict(lr_policy="inv", gamma=-2, power=0.5)])
def test_rate_that_is_no_number(fields):
    with pytest.raises(SolverError, match="the learning rate of iteration 100"):
        learning_rate(SolverParameter(base_lr=1, **fields), 100, 0)


def by_hand(name, g, h, rate, t, mu, delta):
    """One value's update and history after it, by the formulas of Caffe."""
    if name == "SGD":
        h[0] = mu * h[0] + rate * g
        return h[0]
    if name == "Nesterov":
        before = h[0]
        h[0] = mu * h[0] + rate * g
        return (1 + mu) * h[0] - mu * before
    if name == "AdaGrad":
        h[0] += g * g
        return rate * g / (math.sqrt(h[0]) + delta)
    if name == "RMSProp":
        h[0] = 0.8 * h[0] + 0.2 * g * g
        return rate * g / (math.sqrt(h[0]) + delta)
    if name == "AdaDelta":
        h[0] = mu * h[0] + (1 - mu) * g * g
        u = g * math.sqrt((h[1] + delta) / (h[0] + delta))
        h[1] = mu * h[1] + (1 - mu) * u * u
        return rate * u
    h[0] = mu * h[0] + (1 - mu) * g
    h[1] = 0.99 * h[1] + 0.01 * g * g
    return rate * math.sqrt(1 - 0.99**t) / (1 - mu**t) * h[0] / (math.sqrt(h[1]) + delta)


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_rules(name):
    param = SolverParameter(type=name, momentum=0.9, momentum2=0.99, rms_decay=0.8, delta=1e-3)
    rule = find_rule(name)(param)
    history = [torch.zeros(3, dtype=torch.float64) for _ in range(rule.histories)]
    expected = [[0.0, 0.0] for _ in range(3)]
    for iteration, gradients in enumerate([(1.0, -2.0, 0.5), (0.5, 1.0, -0.25), (0.0, 3.0, 1.0)]):
        diff = torch.tensor(gradients, dtype=torch.float64)
        rule.update(diff, history, 0.1, iteration)
        updates = [by_hand(name, g, h, 0.1, iteration + 1, 0.9, 1e-3) for g, h in zip(gradients, expected, strict=True)]
        assert np.allclose(diff.numpy(), updates, rtol=1e-5)


def test_momentum_where_there_is_none():
    for name in ("AdaGrad", "RMSProp"):
        (problem,) = find_rule(name).problems(SolverParameter(type=name, momentum=0.9))
        assert "take it out" in problem
