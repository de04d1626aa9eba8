"""The nets of a solver: which ones its message asks for, and in which states (Caffe: Solver::InitTrainNet, …)."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

from caffe_compat.build_graph import build_graph
from caffe_compat.net import Net
from caffe_compat.paths import Paths
from caffe_compat.training.memory import Need, estimate
from prototxt.caffe_pb2 import TEST, TRAIN, NetParameter, NetState, SolverParameter
from prototxt.dialects import detect
from prototxt.net_file import NetFile, read_net

Roots = Sequence[tuple[str, str]]
_ONE_OF = ("net", "net_param", "train_net", "train_net_param")


class NetSource(NamedTuple):
    """A net that a solver names or holds, and the state it is to be built in."""

    net: str | NetParameter
    phase: int
    state: NetState


def sources(param: SolverParameter) -> tuple[NetSource, list[NetSource], list[str]]:
    """The training net, the test nets in Caffe's order, and what is wrong with their naming."""
    given = [name for name in _ONE_OF if param.HasField(name)]
    problems = []
    if len(given) != 1:
        found = " and ".join(f"`{name}`" for name in given) or "no net"
        problems.append(f"{found}; expected one of {', '.join(f'`{name}`' for name in _ONE_OF)}")
    train = NetSource(getattr(param, given[0]) if given else "", TRAIN, param.train_state)
    own: list[str | NetParameter] = [*param.test_net_param, *param.test_net]
    common = [getattr(param, name) for name in ("net_param", "net") if param.HasField(name)]
    count = len(param.test_iter)
    if count < len(own) or (count > len(own) and not common):
        problems.append(
            f"{count} times `test_iter` for {len(own)} test nets; expected one each"
            + (" at least" if common else ", or a `net` for the others")
        )
    nets = own + common[:1] * (count - len(own))
    if nets and param.test_interval <= 0:
        problems.append(f"{len(nets)} test nets without `test_interval`; expected it, above 0")
    states = list(param.test_state)
    if states and len(states) != len(nets):
        problems.append(f"{len(states)} times `test_state` for {len(nets)} test nets; expected none or one each")
        states = []
    states = states or [NetState()] * len(nets)
    return train, [NetSource(net, TEST, state) for net, state in zip(nets, states, strict=True)], problems


def open_file(
    source: NetSource,
    written: SolverParameter,
    path: str | PathLike[str] | None,
    *,
    dialect: str | None = None,
    roots: Roots = (),
) -> NetFile:
    """A net of a solver, read.

    Args:
        source: which one.
        written: the solver's message as its file has it, which may give the dialect away where the net does not.
        path: the solver's file, beside which the net is looked for too.
        dialect: as for Net.
        roots: as for Net.

    Raises:
        MissingFileError, FormatError.
    """
    file = _read(source.net, path, dialect, roots)
    if dialect is None and not file.evidence and (found := detect(written, file.message)):
        file = _read(source.net, path, found, roots)
    return file


def memory_need(
    source: NetSource, file: NetFile, histories: int, roots: Roots, lean: bool, checkpointing: bool
) -> Need:
    """What a net takes to train, from its graph alone. Raises NetError."""
    graph = build_graph(
        file, _phase(source), level=source.state.level, stages=list(source.state.stage), paths=Paths(file.path, roots)
    )
    return estimate(graph, histories, lean=lean, checkpointing=checkpointing)


def build(source: NetSource, file: NetFile, roots: Roots = ()) -> Net:
    """A net of a solver in its state. Raises as Net."""
    state = dict(level=source.state.level, stages=list(source.state.stage))
    return Net(file, _phase(source), dialect=file.dialect, roots=roots, **state)


def _phase(source: NetSource) -> int:
    return source.state.phase if source.state.HasField("phase") else source.phase


def _read(net: str | NetParameter, path: str | PathLike[str] | None, dialect: str | None, roots: Roots) -> NetFile:
    if isinstance(net, NetParameter):
        return NetFile.from_message(net, dialect)
    return read_net(Paths(path, roots).resolve(net), dialect)
