"""Snapshots: weights and solver state as Caffe writes them, and beside them what Caffe does not keep.

Caffe starts the data over when it resumes. A third file, ``…_iter_N.resume.json``, holds where every data layer stands
and the state of the random numbers, so that a training resumed here goes on bit by bit as if it had not stopped. The
solver state is written last: where it is, everything is.
"""

from __future__ import annotations

import base64
import json
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from caffe_compat.errors import SolverError
from caffe_compat.training.report import log
from caffe_compat.weights import save_weights
from prototxt.caffe_pb2 import SolverParameter
from prototxt.errors import FormatError
from prototxt.files import replacing
from prototxt.solverstate import SolverState, read_solverstate, write_solverstate

if TYPE_CHECKING:
    from caffe_compat.training.solver import Solver

_RESUME = ".resume.json"


def prefix_of(solver: Solver) -> str:
    """What the files begin with; its folder is made. Without a ``snapshot_prefix`` the solver's own name (BVLC)."""
    own = os.path.splitext(solver._path)[0] if solver._path else "snapshot"
    prefix = solver._paths.resolve_output(solver.param.snapshot_prefix or own)
    return os.path.join(prefix, os.path.basename(own)) if os.path.isdir(prefix) else prefix


def write(solver: Solver) -> str:
    """Write the three files, once for the whole team. Returns the state's."""
    param = solver.param
    in_hdf5 = param.snapshot_format == SolverParameter.HDF5
    ending, kind = (".h5", "HDF5") if in_hdf5 else ("", "binary proto")
    named = "" if solver.net.dialect in ("segnet", "deconvnet") else f"{kind} file "
    stem = f"{prefix_of(solver)}_iter_{solver.iter}"
    model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
    beyond = _beyond_caffe(solver)
    if not solver.team.is_first:
        return state
    log.info("Snapshotting to %s%s", named, model)
    save_weights(solver.net.graph, model, diff=param.snapshot_diff)
    with replacing(stem + _RESUME) as draft:
        draft.write_text(json.dumps(beyond), "utf-8")
    log.info("Snapshotting solver state to %s%s", named, state)
    sets = range(solver.rule.histories)  # Adam's second moments come after all its first ones
    history = [histories[i].cpu().numpy() for i in sets for histories in solver.histories]
    write_solverstate(state, SolverState(solver.iter, model, solver.current_step, history), solver.net.dialect)
    return state


def restore(solver: Solver, path: str | PathLike[str]) -> None:
    """Read a state, its weights and, where it is there, what we wrote beside."""
    state = read_solverstate(path)
    flat = [histories[i] for i in range(solver.rule.histories) for histories in solver.histories]
    problems = []
    if len(state.history) != len(flat):
        problems.append(
            f"{len(state.history)} histories; expected {len(flat)}, for {len(solver.histories)} parameters and "
            f"`type: {solver.param.type!r}`"
        )
    problems += [
        f"history {i} has the shape {stored.shape}; expected {tuple(own.shape)}"
        for i, (stored, own) in enumerate(zip(state.history, flat, strict=False))
        if stored.size != own.numel()
    ]
    if problems:
        raise SolverError(
            [f"{path}: {problem}" for problem in problems],
            "This state is of another net or solver; give one that this solver file wrote",
        )
    if state.learned_net:
        solver.net.copy_from(_weights_of(solver, state.learned_net, Path(path)))
    for stored, own in zip(state.history, flat, strict=True):
        own.copy_(torch.from_numpy(np.array(stored, np.float32)).view_as(own))
    solver.iter, solver.current_step = state.iteration, state.current_step
    beside = Path(str(path).removesuffix(".h5").removesuffix(".solverstate") + _RESUME)
    if beside.is_file():
        _take(solver, beside)
    else:
        log.info("%s: no %s beside it: the data starts over, as in Caffe", path, beside.name)


def _weights_of(solver: Solver, name: str, state: Path) -> Path:
    """The weights that a state names: as written, else beside the state, where both were moved together."""
    beside = state.parent / Path(name).name
    return beside if not Path(name).is_file() and beside.is_file() else solver._paths.resolve(name)


def _beyond_caffe(solver: Solver) -> dict[str, object]:
    """What Caffe does not keep: random numbers, the position of every data layer, the scale of an fp16 training."""
    scales = {} if solver.loss_scale is None else {"loss_scale": solver.team.all(solver.loss_scale.state())}
    return {
        **scales,
        "iteration": solver.iter,
        "random": solver.team.all([_text(torch.get_rng_state()), *map(_text, torch.cuda.get_rng_state_all())]),
        "data": [[node.layer.state() for node in net.graph.nodes] for net in (solver.net, *solver.test_nets)],
    }


def _take(solver: Solver, path: Path) -> None:
    try:
        kept = json.loads(path.read_text("utf-8"))
        of_team = kept["random"]
        on_cpu, *on_cuda = (_tensor(text) for text in of_team[solver.team.rank % len(of_team)])
        nets = [solver.net, *solver.test_nets]
        pairs = [
            (node.layer, state)
            for net, states in zip(nets, kept["data"], strict=True)
            for node, state in zip(net.graph.nodes, states, strict=True)
        ]
        if kept["iteration"] != solver.iter:
            raise ValueError(f"of iteration {kept['iteration']}, not {solver.iter}")
        for layer, state in pairs:
            if state is not None:
                layer.load_state(state)
        if solver.loss_scale is not None and "loss_scale" in kept:
            scales = kept["loss_scale"]
            solver.loss_scale.load_state(scales[solver.team.rank % len(scales)])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path}: not what was written beside the solver state ({error}); delete it to resume as Caffe does, with "
            "the data from its start"
        ) from error
    torch.set_rng_state(on_cpu)
    if len(on_cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(on_cuda)


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)
