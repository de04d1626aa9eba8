"""A solver's message: read as written, and looked at for what cannot be."""

from __future__ import annotations

import math
from os import PathLike

from caffe_compat.training import rates
from caffe_compat.training.rules import find_rule, unknown_rule
from prototxt import text
from prototxt.caffe_pb2 import SolverParameter
from prototxt.errors import FormatError
from prototxt.upgrade import upgrade_solver


def read_settings(solver: str | PathLike[str] | SolverParameter) -> tuple[str | None, SolverParameter]:
    """The solver's file, if it is one, and its message as written."""
    if isinstance(solver, SolverParameter):
        return None, solver
    written, _ = text.read(solver, SolverParameter)
    try:
        upgrade_solver(written)
    except FormatError as error:
        raise FormatError([f"{solver}: {problem}" for problem in error.problems]) from error
    return str(solver), written


def problems_of(param: SolverParameter) -> list[str]:
    """What is wrong with a solver's own numbers."""
    found = rates.check_policy(param)
    rule = find_rule(param.type)
    found += rule.problems(param) if rule else [unknown_rule(param.type)]
    if not param.HasField("base_lr") or not math.isfinite(param.base_lr):
        found.append("no `base_lr`; expected the learning rate to begin with")
    if param.iter_size < 1:
        found.append(f"`iter_size: {param.iter_size}`; expected at least 1")
    if param.weight_decay and param.regularization_type not in ("L1", "L2"):
        found.append(f"`regularization_type: {param.regularization_type!r}`; expected L1 or L2")
    return found
