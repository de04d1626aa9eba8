"""The graph of a net before any tensor: layers, splits, shapes, shared parameters, who needs a gradient.

It can be printed, checked and estimated for memory without allocating anything, and it finds every error of a net
that can be found before running it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caffe_compat import registry
from caffe_compat.errors import LayerError, NetError
from caffe_compat.gradients import mark_gradients
from caffe_compat.layer_base import BlobSpec, Context, Shape, TorchLayer
from caffe_compat.paths import Paths
from caffe_compat.sizing import with_guessed_size
from caffe_compat.splits import insert_splits
from prototxt.caffe_pb2 import LayerParameter, NetParameter, ParamSpec
from prototxt.errors import FormatError
from prototxt.net_file import NetFile
from prototxt.state import filter_net

log = logging.getLogger(__name__)


@dataclass
class Param:
    """A parameter blob of a layer in the graph."""

    spec: BlobSpec
    settings: ParamSpec
    owner: tuple[int, int] | None = None
    """Node and blob index of the parameter whose values are shared, or None for one's own."""
    needs_diff: bool = True


@dataclass
class Node:
    """One layer of the graph."""

    layer: TorchLayer
    where: str
    """``file:line: layer 'name' (Type)``, for messages."""
    bottoms: list[str]
    tops: list[str]
    top_shapes: list[Shape] = field(default_factory=list)
    bottom_shapes: list[Shape] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    loss_weights: list[float] = field(default_factory=list)
    needs_backward: bool = False
    propagate_down: list[bool] = field(default_factory=list)

    @property
    def message(self) -> LayerParameter:
        """The layer's message."""
        return self.layer.message

    def fit(self, bottoms: list[Shape]) -> list[Shape]:
        """The shapes of the tops for these bottoms. Raises NetError with the place of the layer."""
        if bottoms != self.bottom_shapes:
            self.bottom_shapes = []  # a layer that refused must be asked again
            try:
                self.top_shapes = self.layer.top_shapes(*bottoms)
            except LayerError as error:
                raise NetError(error.at(self.where)) from error
            self.bottom_shapes = bottoms
        return self.top_shapes

    @property
    def multiply_adds(self) -> int:
        """Of one forward pass."""
        return self.layer.multiply_adds(self.bottom_shapes, self.top_shapes)


@dataclass
class Graph:
    """A filtered net with splits and shapes."""

    source: NetParameter
    """As read: upgraded, with the layers of every phase."""
    message: NetParameter
    """As Caffe holds it: filtered, with splits."""
    nodes: list[Node]
    inputs: list[str]
    blobs: dict[str, Shape]
    """Every blob in the order of creation."""
    outputs: list[str]
    """Blobs that no layer takes, in alphabetical order (Caffe)."""
    level: int
    stages: tuple[str, ...]
    context: Context

    @property
    def dialect(self) -> str:
        """Whose Caffe to follow where the forks differ."""
        return self.context.dialect

    @property
    def feeds(self) -> list[str]:
        """Blobs that come from outside: the inputs, then the tops of input and data layers."""
        return [*self.inputs, *(top for node in self.nodes if node.layer.is_source for top in node.tops)]

    @property
    def parameter_count(self) -> int:
        """The number of values in all parameters, shared ones counted for each layer (as Caffe's files hold them)."""
        return sum(math.prod(param.spec.shape) for node in self.nodes for param in node.params)

    def infer_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of all blobs for other input shapes. Raises NetError with every layer that does not fit."""
        shapes: dict[str, Shape] = {name: tuple(inputs.get(name, self.blobs[name])) for name in self.inputs}
        problems: list[str] = []
        old = [node.bottom_shapes for node in self.nodes]
        for node in self.nodes:
            if node.layer.is_source:
                shapes.update({top: tuple(inputs.get(top, self.blobs[top])) for top in node.tops})
                continue
            try:
                if all(bottom in shapes for bottom in node.bottoms):
                    shapes.update(zip(node.tops, node.fit([shapes[bottom] for bottom in node.bottoms]), strict=True))
            except NetError as error:
                problems += error.problems
                for top in node.tops:
                    shapes.pop(top, None)
        if problems:
            raise NetError(problems)
        _tell_remarks([node for node, before in zip(self.nodes, old, strict=True) if node.bottom_shapes != before])
        return shapes


def build_graph(
    file: NetFile,
    phase: int,
    *,
    level: int = 0,
    stages: Sequence[str] = (),
    dialect: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    image_size: tuple[int, int] | None = None,
    paths: Paths | None = None,
) -> Graph:
    """Filter, split, infer shapes, share parameters, decide on gradients.

    Raises:
        NetError: with every problem that was found.
    """
    try:
        filtered, kept = filter_net(file.message, phase, level, stages)
    except FormatError as error:
        raise NetError([f"{file.path}: {problem}" for problem in error.problems]) from error
    split, origins = insert_splits(filtered)
    lines = [file.lines[kept[origin]] if origin is not None else None for origin in origins]
    shapes = {name: tuple(int(d) for d in shape) for name, shape in (input_shapes or {}).items()}
    context = Context(phase, dialect or file.dialect, paths or Paths(file.path), shapes, image_size)
    context = with_guessed_size(split, context)
    builder = _Builder(file, context)
    builder.add_inputs(split)
    for message, line in zip(split.layer, lines, strict=True):
        builder.add_layer(message, line)
    if builder.problems:
        raise NetError(builder.problems, registry.OWN_TYPES if builder.strange_types else "")
    graph = Graph(
        source=file.message,
        message=split,
        nodes=builder.nodes,
        inputs=list(split.input),
        blobs=builder.shapes,
        outputs=builder.outputs(),
        level=level,
        stages=tuple(stages),
        context=context,
    )
    mark_gradients(graph)
    _tell_remarks(graph.nodes)
    return graph


def _tell_remarks(nodes: Sequence[Node]) -> None:
    for node in nodes:
        for remark in node.layer.remarks():
            log.warning("%s: %s", node.where, remark)


class _Builder:
    """Takes the layers one by one and gathers what is wrong with them."""

    def __init__(self, file: NetFile, context: Context) -> None:
        self.file, self.context = file, context
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self.unread: set[str] = set()
        self.known: set[str] = set()
        """Names that some layer makes, also where their shape is unknown for an error that was already told."""
        self.shared: dict[str, tuple[int, int]] = {}
        self.problems: list[str] = []
        self.strange_types = False

    def place(self, message: LayerParameter, line: int | None) -> str:
        """``file:line: layer 'name' (Type)``."""
        line_text = f":{line}" if line is not None else ""
        return f"{self.file.path}{line_text}: layer {message.name!r} ({message.type})"

    def outputs(self) -> list[str]:
        """Blobs that nobody reads."""
        return sorted(self.unread)

    def add_inputs(self, net: NetParameter) -> None:
        """The net's own inputs, with their dims as written or as given."""
        names = list(net.input)
        by_dims = [tuple(net.input_dim[4 * i : 4 * i + 4]) for i in range(len(net.input_dim) // 4)]
        written = [tuple(shape.dim) for shape in net.input_shape] or by_dims
        if net.input_shape and net.input_dim:
            self.problems.append(
                f"{self.file.path}: both `input_shape` and `input_dim` are given; expected one of them"
            )
        for i, name in enumerate(names):
            shape = self.context.sized(name, written[i] if i < len(written) else None)
            self.known.add(name)
            if shape is None:
                self.problems.append(
                    f"{self.file.path}: input {name!r} has no shape; expected one `input_shape {{ dim: … }}` "
                    f"(or 4 times `input_dim`) for each `input`, or input_shapes={{{name!r}: (N, C, H, W)}}"
                )
                continue
            self.shapes[name] = shape
            self.unread.add(name)

    def add_layer(self, message: LayerParameter, line: int | None) -> None:
        """One more layer."""
        where = self.place(message, line)
        tops, bottoms = list(message.top), list(message.bottom)
        found = [self._check_names(where, bottoms, tops)]
        cls = registry.find(message.type, self.context.dialect)
        if cls is None:
            self.strange_types = True
            found.append([registry.unknown_type(message.type)])
        else:
            found.append(self._check_counts(cls, bottoms, tops))
        problems = [problem for group in found for problem in group]
        self.known.update(tops)
        for bottom in bottoms:
            self.unread.discard(bottom)
        if not problems and all(bottom in self.shapes for bottom in bottoms):
            try:
                self._add_node(cls(message, self.context), where, bottoms, tops)
                return
            except LayerError as error:
                problems += error.problems
        self.problems += [f"{where}: {problem}" for problem in problems]
        for top in tops:  # what follows is judged as far as it does not hang on this layer
            self.shapes.pop(top, None)
            self.unread.discard(top)

    def _check_names(self, where: str, bottoms: list[str], tops: list[str]) -> list[str]:
        problems = [
            f"unknown bottom {name!r}; expected a blob made by a layer above or an input"
            + (f", {hint}" if (hint := registry.nearest(name, self.known)) else "")
            for name in bottoms
            if name not in self.known
        ]
        for i, top in enumerate(tops):
            in_place = i < len(bottoms) and bottoms[i] == top
            if top in tops[:i] or (top in self.known and not in_place):
                maker = next((node.where for node in reversed(self.nodes) if top in node.tops), "an input of the net")
                problems.append(
                    f"duplicate top {top!r}, already made by {maker}; expected a new name, or the same name "
                    "as the bottom at that place for an in-place layer without other readers"
                )
        return problems

    def _check_counts(self, cls: type[TorchLayer], bottoms: list[str], tops: list[str]) -> list[str]:
        problems = []
        if cls.is_loss and not tops:
            # Caffe makes the loss top that was not named
            tops.append("(automatic)" if "(automatic)" not in self.known else f"(automatic {len(self.nodes)})")
        for what, names, (least, most) in (("bottoms", bottoms, cls.bottoms), ("tops", tops, cls.tops)):
            if len(names) < least or (most is not None and len(names) > most):
                expected = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
                problems.append(f"{len(names)} {what}; expected {expected}")
        return problems

    def _add_node(self, layer: TorchLayer, where: str, bottoms: list[str], tops: list[str]) -> None:
        bottom_shapes = [self.shapes[bottom] for bottom in bottoms]
        node = Node(layer, where, bottoms, tops, layer.top_shapes(*bottom_shapes), bottom_shapes)
        node.loss_weights = self._loss_weights(layer, tops)
        node.params = self._params(node)
        self.shapes.update(zip(tops, node.top_shapes, strict=True))
        self.unread.update(tops)
        self.nodes.append(node)

    @staticmethod
    def _loss_weights(layer: TorchLayer, tops: list[str]) -> list[float]:
        written = list(layer.message.loss_weight)
        if written and len(written) != len(layer.message.top):
            raise LayerError(f"{len(written)} times `loss_weight` for {len(tops)} tops; expected none or one each")
        return written or [float(layer.is_loss and i == 0) for i in range(len(tops))]

    def _params(self, node: Node) -> list[Param]:
        specs = node.layer.param_specs(*node.bottom_shapes)
        settings = list(node.message.param)
        if len(settings) > len(specs):
            raise LayerError(
                f"{len(settings)} times `param` for {len(specs)} parameter blobs; expected at most one each"
            )
        settings += [ParamSpec() for _ in specs[len(settings) :]]
        return [self._param(i, spec, setting) for i, (spec, setting) in enumerate(zip(specs, settings, strict=True))]

    def _param(self, index: int, spec: BlobSpec, setting: ParamSpec) -> Param:
        if not setting.name:
            return Param(spec, setting)
        owner = self.shared.setdefault(setting.name, (len(self.nodes), index))
        if owner == (len(self.nodes), index):
            return Param(spec, setting)
        first = self.nodes[owner[0]]
        theirs = first.params[owner[1]].spec.shape
        permissive = setting.share_mode == ParamSpec.PERMISSIVE
        if tuple(theirs) != tuple(spec.shape) and not (permissive and math.prod(theirs) == math.prod(spec.shape)):
            raise LayerError(
                f"param {setting.name!r} is shared with layer {first.layer.name!r}, but has the shape {spec.shape} "
                f"here and {theirs} there; expected {'as many values' if permissive else 'the same shape'}"
            )
        return Param(spec, setting, owner)
