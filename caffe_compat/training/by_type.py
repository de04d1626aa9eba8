"""Solvers under pycaffe's names, one for each update rule."""

from __future__ import annotations

from os import PathLike

from caffe_compat.training.solver import Solver


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    type = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    type = "Nesterov"


class AdaGradSolver(Solver):
    """AdaGrad."""

    type = "AdaGrad"


class RMSPropSolver(Solver):
    """RMSProp."""

    type = "RMSProp"


class AdaDeltaSolver(Solver):
    """AdaDelta."""

    type = "AdaDelta"


class AdamSolver(Solver):
    """Adam."""

    type = "Adam"


def get_solver(solver: str | PathLike[str], **options: object) -> Solver:
    """The solver of a file, of the type that it says (pycaffe: ``get_solver``). Options and errors as for Solver."""
    return Solver(solver, **options)
