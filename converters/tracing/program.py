"""A module as a functional graph of ATen operations, small enough a set to translate and large enough to read.

The graph is torch.export's with in-place operations made functional and nothing else taken apart: a convolution with
``padding="same"`` is still one. Two things would not survive that and are kept by operations of our own: dropout, which
is the identity in ``eval``, and local response normalisation, which torch composes of ten operations.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.export import ExportedProgram

from prototxt.errors import CaffeError

_DROPOUTS = (torch.ops.aten.dropout.default, torch.ops.aten.dropout_.default)


@torch.library.custom_op("caffe_segnet::dropout", mutates_args=())
def dropout(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Stands for torch's dropout in a graph; never run for its result."""
    return input.clone()


@torch.library.custom_op("caffe_segnet::local_response_norm", mutates_args=())
def local_response_norm(input: torch.Tensor, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """Stands for torch.nn.functional.local_response_norm in a graph; never run for its result."""
    return input.clone()


@dropout.register_fake
def _(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    return torch.empty_like(input)


@local_response_norm.register_fake
def _(input: torch.Tensor, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    return torch.empty_like(input)


def export(module: nn.Module | ExportedProgram, inputs: Sequence[torch.Tensor]) -> ExportedProgram:
    """The graph of a module in ``eval``, for inputs like these; the module's modes are as before afterwards.

    Raises:
        CaffeError: torch.export cannot trace it.
    """
    if isinstance(module, ExportedProgram):
        return _functional(module)
    try:
        with evaluating(module):
            return _functional(torch.export.export(module, tuple(inputs), strict=False))
    except Exception as error:  # whatever the module's own code raises ends here too
        first = str(error).strip().splitlines()[:1]
        raise CaffeError(
            f"{type(module).__name__}: torch.export cannot trace it: {type(error).__name__}: {' '.join(first)}. "
            "Expected a module whose forward takes these inputs and does not look at their values"
        ) from error


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """``eval()`` for a while; every part has its own mode again afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _functional(program: ExportedProgram) -> ExportedProgram:
    kept = _dropouts_to_keep(program.graph)
    dropouts = {node: (node.target, node.args) for node in program.graph.nodes if node.target in _DROPOUTS}
    for node in dropouts:
        if node in kept:
            node.target = torch.ops.caffe_segnet.dropout.default
        else:  # torch would make a copy of it
            node.target, node.args = torch.ops.aten.alias.default, node.args[:1]
    try:
        program = program.run_decompositions({})
    finally:
        for node, (target, args) in dropouts.items():  # a program that was given stays as it was
            node.target, node.args = target, args
    graph = program.graph
    for node in list(graph.nodes):
        if node.target == torch.ops.aten.div.Tensor and (found := _normalisation(node)):
            with graph.inserting_before(node):
                norm = graph.call_function(torch.ops.caffe_segnet.local_response_norm.default, found)
            norm.meta = dict(node.meta)
            node.replace_all_uses_with(norm)
    graph.eliminate_dead_code()
    return program


def _dropouts_to_keep(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Dropouts that nothing writes into afterwards.

    In ``eval`` torch's dropout gives its input itself, so what writes into one of the two changes both.
    """
    memory: dict[torch.fx.Node, torch.fx.Node] = {}  # node → the first node that has the same memory
    kept: dict[torch.fx.Node, list[torch.fx.Node]] = {}  # the first node of a memory → its dropouts
    for node in graph.nodes:
        shares = [node.args[0]] if is_item(node) else []
        if isinstance(node.target, torch._ops.OpOverload):
            aliased = [
                (node.args[i] if i < len(node.args) else node.kwargs.get(declared.name), declared.alias_info)
                for i, declared in enumerate(node.target._schema.arguments)
                if declared.alias_info is not None
            ]
            shares = [value for value, _ in aliased if isinstance(value, torch.fx.Node)]
            for value in (value for value, alias in aliased if alias.is_write and isinstance(value, torch.fx.Node)):
                kept.pop(memory.get(value, value), None)
        if node.target in _DROPOUTS:
            shares = [node.args[0]]
        memory[node] = memory.get(shares[0], shares[0]) if shares else node
        if node.target in _DROPOUTS:
            kept.setdefault(memory[node], []).append(node)
    return {node for dropouts in kept.values() for node in dropouts}


def _normalisation(node: torch.fx.Node) -> tuple[object, ...] | None:
    """The arguments of a local response normalisation that ends in this division; None if it is something else.

    torch.nn.functional.local_response_norm: x / (k + alpha * mean of x * x over ``size`` channels) ** beta.
    """
    x, power = node.args[:2]
    chain: list[torch.fx.Node] = []
    step = power
    for name in ("pow", "add", "mul", "view", "squeeze", "avg_pool3d", "pad", "view", "mul"):
        if not isinstance(step, torch.fx.Node) or getattr(step.target, "overloadpacket", None) != getattr(
            torch.ops.aten, name
        ):
            return None
        chain.append(step)
        step = step.args[0]
    raised, added, scaled, _, _, pooled, padded, _, square = chain
    (size, *flat), strides = pooled.args[1], pooled.args[2]
    sides = [0, 0, 0, 0, size // 2, (size - 1) // 2]
    whole = len(pooled.args) == 3 and flat == [1, 1] and set(strides) == {1} and list(padded.args[1]) == sides
    numbers = (scaled.args[1], raised.args[1], added.args[1])
    if not whole or square.args != (x, x) or not all(isinstance(number, int | float) for number in numbers):
        return None
    return (x, size, *map(float, numbers))


def is_item(node: torch.fx.Node) -> bool:
    """Whether a node takes one output of an operation with several."""
    return node.target is operator.getitem
