"""Building the graph of a net, and finding every error of it that can be found before it runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from caffe_compat import registry
from caffe_compat.errors import LayerError, NetError
from caffe_compat.gradients import mark_gradients
from caffe_compat.graph import Graph, Node, Param, mark_positions, tell_remarks
from caffe_compat.layer_base import BlobSpec, Context, TorchLayer
from caffe_compat.paths import Paths
from caffe_compat.shapes import Shape
from caffe_compat.sizing import with_guessed_size
from caffe_compat.splits import insert_splits
from prototxt.caffe_pb2 import LayerParameter, NetParameter, ParamSpec
from prototxt.errors import FormatError
from prototxt.net_file import NetFile
from prototxt.state import filter_net

_NOT_NEGATIVE = "expected no axis below 0"


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
        raise NetError(builder.problems, registry.OWN_TYPES if builder.strange_types else "") from builder.cause
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
    mark_positions(graph.nodes)
    tell_remarks(graph.nodes)
    return graph


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
        self.cause: BaseException | None = None
        """What the user's own code raised, if it did."""
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
            if min(shape, default=0) < 0:
                self.problems.append(f"{self.file.path}: input {name!r} has the shape {shape}; {_NOT_NEGATIVE}")
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
                self._add_node(cls(message, self.context._replace(where=where)), where, bottoms, tops)
                return
            except LayerError as error:
                problems += error.problems
                self.cause = self.cause or error.__cause__
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
        while (cls.is_loss or cls.makes_tops) and len(tops) < cls.tops[0]:
            # Caffe makes the tops that were not named
            taken = self.known.union(tops)
            numbered = (f"(automatic {number})" for number in itertools.count(2))
            tops.append(next(name for name in itertools.chain(["(automatic)"], numbered) if name not in taken))
        for what, names, (least, most) in (("bottoms", bottoms, cls.bottoms), ("tops", tops, cls.tops)):
            if len(names) < least or (most is not None and len(names) > most):
                expected = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
                problems.append(f"{len(names)} {what}; expected {expected}")
        return problems

    def _add_node(self, layer: TorchLayer, where: str, bottoms: list[str], tops: list[str]) -> None:
        layer.connect(bottoms, self.nodes)
        bottom_shapes = [self.shapes[bottom] for bottom in bottoms]
        node = Node(layer, where, bottoms, tops, layer.top_shapes(*bottom_shapes), bottom_shapes)
        for top, shape in zip(tops, node.top_shapes, strict=True):
            if min(shape, default=0) < 0:
                raise LayerError(f"top {top!r} would have the shape {tuple(shape)}; {_NOT_NEGATIVE}")
        node.loss_weights = self._loss_weights(layer, tops)
        node.params = self._params(node)
        self.shapes.update(zip(tops, node.top_shapes, strict=True))
        self.unread.update(tops if layer.is_loss else layer.message.top)  # what was made unasked is no output
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
