"""The steps of an engine for one size of its inputs: which operators run as a chain, and when a value is let go."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from caffe_compat.engine.flow import Operation
from caffe_compat.engine.index_pooling import Pool, Unpool
from caffe_compat.engine.operators import Convolution
from caffe_compat.engine.rows import STRIP, Parts, RowOperator, run_chain
from caffe_compat.heap import give_back
from caffe_compat.layer_types.pooling import Pooling
from caffe_compat.layer_types.unpooling import Unpooling
from caffe_compat.layer_types.upsample import Upsample
from caffe_compat.shapes import Shape

_FLOAT = 4  # bytes


@dataclass
class Step:
    """Something that is run, on values by their numbers."""

    run: Callable[[Parts], Parts]
    reads: list[int]
    writes: list[int]
    frees: list[int] = field(default_factory=list)
    """Values that nobody needs afterwards."""


@dataclass
class Work:
    """An operation with what runs it: an operator by rows, or the layer itself."""

    operation: Operation | None
    operator: RowOperator | None
    reads: list[int]
    writes: list[int]
    shape: Shape = ()
    """Of the first value that is written."""


def index_pooling(operations: Sequence[Operation], kept: set[int]) -> dict[int, RowOperator]:
    """What runs poolings in windows of 2×2 and the upsamplings that take their masks, by ``id`` of the operation.

    A mask that anything else looks at, or that is among the values ``kept``, is made as Caffe makes it.
    """
    found: dict[int, RowOperator] = {}
    for operation in operations:
        layer = operation.node.layer
        if not (isinstance(layer, Pooling) and layer.maximum and _halves(layer)):
            continue
        takers = [other for other in operations if set(operation.writes[1:]) & set(other.reads)]
        if not kept & set(operation.writes[1:]) and all(_puts_back(other, operation) for other in takers):
            found[id(operation)] = Pool(len(operation.writes) == 2)
            found.update((id(taker), Unpool(*taker.node.top_shapes[0][2:])) for taker in takers)
    return found


def _halves(layer: Pooling) -> bool:
    return (layer.window, layer.stride, layer.pad) == ((2, 2), (2, 2), (0, 0)) and layer.torch_agrees


def _puts_back(operation: Operation, pooling: Operation) -> bool:
    """Whether an operation puts values at the pooling's places in a plane of the size that was pooled."""
    layer = operation.node.layer
    by_index = isinstance(layer, Upsample) or (isinstance(layer, Unpooling) and layer.has_mask)
    same_plane = operation.node.top_shapes[0][2:] == pooling.node.bottom_shapes[0][2:]
    return by_index and same_plane and operation.reads[1:] == pooling.writes[1:] != operation.reads[:1]


def steps_of(
    works: Sequence[Work], kept: set[int], run_layer: Callable[[Operation, Parts], Parts], in_strips: bool
) -> list[Step]:
    """What to run in which order.

    Args:
        works: in an order that works.
        kept: values that are not let go.
        run_layer: runs an operation that has no operator.
        in_strips: whether chains may be worked off strip by strip.
    """
    uses = Counter(value for work in works for value in work.reads)
    readers = {value: work for work in works for value in work.reads}
    steps: list[Step] = []
    chained: set[int] = set()
    for work in works:
        if id(work) in chained:
            continue
        if work.operator is None:
            operation = work.operation
            steps.append(Step(lambda parts, op=operation: run_layer(op, parts), work.reads, work.writes))
            continue
        chain = [work]
        while (after := _next_in_chain(chain[-1], uses, readers, kept)) is not None:
            chain.append(after)
        chained.update(map(id, chain))
        steps.append(_chain_step(chain, in_strips))
    _let_go(steps, kept)
    if in_strips:
        _give_back_at_the_narrowest(works, steps)
    return steps


def _next_in_chain(work: Work, uses: Mapping[int, int], readers: Mapping[int, Work], kept: set[int]) -> Work | None:
    """Who may take the rows of a work as they are made: its only reader, if that goes by rows too."""
    value = work.writes[0]
    after = readers.get(value)
    if isinstance(work.operator, Pool) or not _by_rows(work.operator) or uses[value] != 1 or value in kept:
        return None
    if after is None or after.reads != [value] or after.operator is None or not _by_rows(after.operator):
        return None
    return after


def _by_rows(operator: RowOperator | None) -> bool:
    return not isinstance(operator, Convolution) or operator.keeps_rows


def _chain_step(chain: Sequence[Work], in_strips: bool) -> Step:
    operators = [work.operator for work in chain if work.operator is not None]
    largest = max(_FLOAT * math.prod(work.shape[1:]) for work in chain)
    fewest_rows = chain[-1].shape[2]
    strips = min(math.ceil(largest / STRIP), fewest_rows) if in_strips and len(chain) > 1 else 1
    return Step(lambda parts: run_chain(operators, parts, strips), chain[0].reads, chain[-1].writes)


def _let_go(steps: Sequence[Step], kept: set[int]) -> None:
    last = {value: step for step in steps for value in (*step.reads, *step.writes)}
    for value, step in last.items():
        if value not in kept:
            step.frees.append(value)


def _give_back_at_the_narrowest(works: Sequence[Work], steps: Sequence[Step]) -> None:
    """Where the values are smallest, let what came before go back to the system: its holes fit nothing that follows."""
    sizes = {value: math.prod(work.shape[1:]) for work in works for value in work.writes[:1]}
    narrow = min(steps, key=lambda step: sizes.get(step.writes[0], math.inf) if step.writes else math.inf)
    run = narrow.run

    def run_then_give_back(parts: Parts) -> Parts:
        made = run(parts)
        give_back()
        return made

    narrow.run = run_then_give_back


def run_steps(steps: Sequence[Step], values: dict[int, torch.Tensor]) -> None:
    """Run all of them; ``values`` begins with what comes from outside, and is left with what is kept."""
    for step in steps:
        made = step.run(tuple(values[value] for value in step.reads))
        values.update(zip(step.writes, made, strict=True))
        for value in step.frees:
            values.pop(value, None)
