"""What is emitted of a net: its steps and values, without what only trains or measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from caffe_compat import Net
from caffe_compat.graph import Node
from caffe_compat.layer_base import TorchLayer
from caffe_compat.shapes import Shape
from prototxt.errors import CaffeError

#: Layers beside the losses that measure or store what others compute.
_MEASURES = (
    *("Accuracy", "BinaryAccuracy", "EltwiseAccuracy", "RedAccuracy", "SegAccuracy"),
    *("HDF5Output", "MatWrite"),
)
#: Layers whose top is their bottom's memory, in Caffe as here.
_SAME_MEMORY = ("Flatten", "Reshape")


class CannotEmit(CaffeError):
    """A layer, or a net, of which no source can be written."""


@dataclass(eq=False)
class Value:
    """A tensor of the emitted ``forward``: a blob from one layer that writes it to the next one that does."""

    blob: str
    shape: Shape
    maker: Step | None = None
    """None for an input."""
    kind: str = ""
    """``places`` for a pooling's positions as integers, ``size`` for rows and columns of a plane; else a tensor."""
    needed: bool = False
    same_as: Value | None = None
    """The value that a layer passes on as this one."""
    remark: str = ""
    """Of an input: what its data layer does to it."""
    memory: Value | None = None
    """The first value that Caffe keeps in the same place, None for the value itself."""

    @property
    def storage(self) -> Value:
        """Equal for values in the same memory."""
        return self.memory or self


class Assignment(NamedTuple):
    """``targets = template``, where ``{0}`` stands for the first argument and so on."""

    targets: tuple[Value, ...]
    template: str
    arguments: tuple[Value, ...]


@dataclass(eq=False)
class Step:
    """One layer that is emitted."""

    index: int
    node: Node
    key: str
    """Of the layer among those of ``Net.layer``."""
    bottoms: list[Value]
    tops: list[Value]
    in_place: bool
    lines: list[Assignment] = field(default_factory=list)
    constructor: str = ""
    """Of the module that ``self`` holds for the layer, if it does."""
    size: Value | None = None

    @property
    def layer(self) -> TorchLayer:
        """The layer."""
        return self.node.layer

    def parameter(self, index: int) -> Shape:
        """The shape of a parameter."""
        return tuple(self.node.params[index].spec.shape)

    def module(self, constructor: str) -> str:
        """Let the class hold a module for the layer. Returns a stand-in for its name, to be put into templates."""
        self.constructor = constructor
        return "{self}"

    def assign(self, template: str, top: int = 0, bottoms: Sequence[int] | None = None) -> None:
        """``top = template`` of these bottoms, by default of all."""
        if self.tops[top].needed:
            chosen = self.bottoms if bottoms is None else [self.bottoms[i] for i in bottoms]
            self.lines.append(Assignment((self.tops[top],), template, tuple(chosen)))

    def pass_on(self) -> None:
        """The top is the bottom."""
        self.tops[0].same_as = self.bottoms[0]

    def size_before(self) -> Value:
        """The rows and columns of the first bottom, remembered before the step."""
        if self.size is None:
            x = self.bottoms[0]
            self.size = Value(f"size_{self.layer.name}", (2,), self, "size", needed=True)
            self.lines.insert(0, Assignment((self.size,), "{0}.shape[2:]", (x,)))
        return self.size


@dataclass
class Plan:
    """The steps of a net in order, what comes in and what goes out."""

    steps: list[Step]
    inputs: list[Value]
    outputs: list[Value]
    left_out: list[str]
    """``name (Type)`` of the layers that only train or measure."""

    @property
    def batch(self) -> int | None:
        """The number of items as the prototxt has it, None where no input has any axes."""
        return next((value.shape[0] for value in self.inputs if value.shape), None)


def plan(net: Net) -> Plan:
    """Follow the blobs through a net, and leave out what no output needs.

    Layers that feed data become inputs. Losses and measures are left out, and the scores that they look at, their
    first bottoms, are outputs where nothing else reads them.

    Raises:
        CannotEmit: no output is left, or a layer in place would change what another one reads later.
    """
    graph = net.graph
    current = {name: Value(name, graph.blobs[name]) for name in graph.inputs}
    inputs = list(current.values())
    steps: list[Step] = []
    left_out: list[str] = []
    judged: list[Value] = []
    for index, (node, key) in enumerate(zip(graph.nodes, net.layer, strict=True)):
        kind = node.layer.type
        if node.layer.is_source:
            told = _data_remark(node)
            made = zip(node.tops, node.top_shapes, strict=True)
            current.update({top: Value(top, shape, remark=told if len(shape) == 4 else "") for top, shape in made})
            inputs += [current[top] for top in node.tops]
            continue
        missing = [name for name in node.bottoms if name not in current]
        if node.layer.is_loss or kind in _MEASURES or missing:  # missing: it works on what a loss gives
            left_out.append(f"{node.layer.name} ({kind})")
            judged += [current[name] for name in node.bottoms[:1] if name in current]
        elif kind == "Split":
            current.update(dict.fromkeys(node.tops, current[node.bottoms[0]]))
        elif kind != "Silence":
            steps.append(_step(index, node, key, current))
    read = {value for step in steps for value in step.bottoms}
    outputs = [current[name] for name in graph.outputs if name in current and current[name] not in judged]
    outputs += [value for value in dict.fromkeys(judged) if value not in read]
    outputs = [value for value in outputs if value.maker is not None]
    if not outputs:
        raise CannotEmit(f"the net {graph.message.name!r} has no output that a layer computes; expected one")
    steps = _needed(steps, outputs)
    _check_memory(steps, outputs)
    return Plan(steps, [value for value in inputs if value.needed], outputs, left_out)


def _step(index: int, node: Node, key: str, current: dict[str, Value]) -> Step:
    step = Step(index, node, key, [current[name] for name in node.bottoms], [], node.layer.in_place)
    for i, (top, shape) in enumerate(zip(node.tops, node.top_shapes, strict=True)):
        value = Value(top, shape, step)
        if node.layer.type == "Pooling" and i == 1:
            value.kind = "places"
        shares = step.in_place or node.layer.type in _SAME_MEMORY
        if shares and i == 0:
            value.memory = step.bottoms[0].storage
        step.tops.append(value)
        current[top] = value
    return step


def _needed(steps: list[Step], outputs: list[Value]) -> list[Step]:
    """The steps that outputs hang on; marks every value that somebody needs."""
    for value in outputs:
        value.needed = True
    kept = []
    for step in reversed(steps):
        if any(top.needed for top in step.tops):
            kept.append(step)
            for value in step.bottoms:
                value.needed = True
    return kept[::-1]


def _check_memory(steps: list[Step], outputs: list[Value]) -> None:
    """Raise CannotEmit for layers that write over what Flatten or Reshape have given another name."""
    shared = {step.tops[0].storage for step in steps if step.layer.type in _SAME_MEMORY}
    problems = []
    for i, step in enumerate(steps):
        storage = step.tops[0].storage
        if not step.in_place or storage not in shared:
            continue
        before = {None, *steps[:i]}
        later = [(value, other.node.where) for other in steps[i + 1 :] for value in other.bottoms]
        for value, reader in [*later, *((value, "the net's output") for value in outputs)]:
            if value.storage is storage and value.maker in before:
                problems.append(
                    f"{step.node.where}: writes over the memory of {value.blob!r}, which is read later ({reader}); "
                    "expected a top of its own name, as nothing shares memory in a source"
                )
                break
    if problems:
        raise CannotEmit(problems)


def _data_remark(node: Node) -> str:
    """What a data layer does to its images, where it says so."""
    param = node.message.transform_param
    found = [f"mean_file {param.mean_file}"] if param.HasField("mean_file") else []
    found += [f"mean_value {', '.join(f'{value:g}' for value in param.mean_value)}"] if param.mean_value else []
    found += [f"scale {param.scale:g}"] if param.HasField("scale") else []
    return f"after its data layer's {' and '.join(found)}" if found else ""
