"""A torch module as a Caffe net with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from caffe_compat.build_graph import build_graph
from converters.tracing import rules as rules  # registers them
from converters.tracing.call import Call
from converters.tracing.errors import CannotSay
from converters.tracing.finishing import keep_outputs, run_in_place, share, silence
from converters.tracing.program import export, is_item
from converters.tracing.registry import find
from converters.tracing.values import Blob, Constant, Padded, Shape
from converters.tracing.writer import Writer
from converters.translate import Untranslatable, lacks
from converters.translation_rules import upsample_to_python
from prototxt.caffe_pb2 import TEST, NetParameter
from prototxt.dialects import check_dialect
from prototxt.net_file import NetFile


@dataclass
class TracedNet:
    """What a module became."""

    net: NetParameter
    blobs: list[list[np.ndarray]]
    """For each layer its parameters, in Caffe's order."""
    inputs: list[str]
    """The blobs of the module's inputs, in their order."""
    outputs: list[str]
    """The blobs of the module's outputs, in the order in which torch's pytree flattens what forward returns."""
    dialect: str


def module_to_net(
    module: nn.Module | ExportedProgram,
    inputs: Sequence[torch.Tensor],
    *,
    dialect: str | None = None,
    name: str | None = None,
) -> TracedNet:
    """Translate what a module computes in ``eval``.

    Args:
        module: of float32, with every part that learns in it; or what torch.export made of one.
        inputs: what forward takes, by position; their shapes become the net's. A program has its own.
        dialect: whose Caffe shall read the net; by default ``segnet`` for a module with index unpooling, else ``bvlc``.
        name: the net's name; by default the module's class.

    Raises:
        Untranslatable: with every operation that Caffe, or this dialect, has no layer for; CaffeError: torch.export
            cannot trace the module, or there is no such dialect.
    """
    program = export(module, inputs)
    unpools = any(node.target == torch.ops.aten.max_unpool2d.default for node in program.graph.nodes)
    target = check_dialect(dialect or ("segnet" if unpools else "bvlc"))
    if target == "deconvnet":
        raise Untranslatable("deconvnet reads files of the generation V1 alone; expected another dialect")
    translation = _Translation(program, Writer(target))
    net, input_names, outputs = translation.run()
    net.name = name or (type(module).__name__ if isinstance(module, nn.Module) else "program")
    file = NetFile.from_message(net, target)
    _replace_upsamples(net, translation.writer)
    translation.problems += [f"layer {problem}" for layer in net.layer for problem in lacks(layer, target)]
    if translation.problems:
        raise Untranslatable(list(dict.fromkeys(translation.problems)))
    _check_shapes(file, outputs, translation.shapes)
    weights = translation.writer.weights
    blobs = [[weight.values for weight in weights.get(layer.name, ())] for layer in net.layer]
    return TracedNet(net, blobs, input_names, outputs, target)


class _Translation:
    """Goes through a graph once; what cannot be said is noted, and something of the same shape stands for it."""

    def __init__(self, program: ExportedProgram, writer: Writer) -> None:
        self.program = program
        self.writer = writer
        self.problems: list[str] = []
        self.values: dict[torch.fx.Node, object] = {}
        self.shapes: list[Shape] = []
        """Of the outputs."""

    def run(self) -> tuple[NetParameter, list[str], list[str]]:
        """The net, and the blobs of its inputs and outputs; after a problem only layers, in which to look for more."""
        inputs = self._take_inputs()
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "output":
                outputs = self._outputs(node)
            elif node.op != "placeholder":
                self.values[node] = self._value(node)
        net = self.writer.spec.to_proto()
        if self.problems:
            return net, [], []
        names = [blob.name for blob in inputs]
        outputs = keep_outputs(net, names, outputs)
        silence(net, names, outputs)
        outputs = run_in_place(net, names, outputs)
        share(net, self.writer.weights)
        return net, names, outputs

    def _take_inputs(self) -> list[Blob]:
        """Parameters and buffers as constants, the inputs as blobs; a single one is called ``data``, as in Caffe."""
        nodes = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        specs = self.program.graph_signature.input_specs
        given = [spec for spec in specs if spec.kind == InputKind.USER_INPUT and spec.arg.name in nodes]
        given = [spec for spec in given if isinstance(nodes[spec.arg.name].meta.get("val"), torch.Tensor)]
        inputs = []
        for spec in specs:
            node = nodes.get(spec.arg.name)
            if node is None:
                continue
            if spec in given:
                value = node.meta["val"]
                if value.dtype != torch.float32:
                    self.problems.append(f"input {node.name!r}: {value.dtype}; expected torch.float32")
                shape = tuple(int(size) for size in value.shape)
                inputs.append(self.writer.input("data" if len(given) == 1 else node.name, shape))
                self.values[node] = inputs[-1]
            elif spec.kind == InputKind.USER_INPUT:
                self.values[node] = getattr(spec.arg, "value", None)
            else:
                self.values[node] = self._constant(spec.target)
        return inputs

    def _constant(self, target: str) -> Constant:
        held = self.program.state_dict if target in self.program.state_dict else self.program.constants
        return Constant(held[target].detach(), target)

    def _value(self, node: torch.fx.Node) -> object:
        args = self._resolve(node.args)
        kwargs = self._resolve(node.kwargs)
        if is_item(node):
            return args[0][args[1]]
        call = Call(node, self.writer)
        rule = find(node.target)
        try:
            if not _depends(args) and not _depends(kwargs):
                return _computed(node, args, kwargs)
            if rule is None:
                raise CannotSay("it has no translation to Caffe's layers")
            return rule(call, *_by_schema(node.target._schema, args, kwargs))
        except CannotSay as error:
            self.problems += [f"{call.where}: {problem}" for problem in error.problems]
        stand_ins = [self.writer.unknown(shape) for shape in call.shapes]
        return stand_ins if isinstance(node.meta.get("val"), list | tuple) else stand_ins[0]

    def _resolve(self, value: object) -> object:
        if isinstance(value, torch.fx.Node):
            return self.values.get(value)
        if isinstance(value, list | tuple):
            return [self._resolve(one) for one in value]
        return {key: self._resolve(one) for key, one in value.items()} if isinstance(value, dict) else value

    def _outputs(self, node: torch.fx.Node) -> list[str]:
        names = []
        for spec, value in zip(self.program.graph_signature.output_specs, self._resolve(node.args[0]), strict=True):
            if spec.kind == OutputKind.USER_INPUT_MUTATION:
                continue  # a first layer that works in place; the net leaves its input alone
            if spec.kind != OutputKind.USER_OUTPUT:
                self.problems.append(
                    f"{spec.target or 'the module'}: written to while it runs ({spec.kind.name.lower()}); expected a "
                    "module that keeps nothing from one pass to the next"
                )
                continue
            try:
                blob = Call(node, self.writer).blob(value)
                names.append(blob.name)
                self.shapes.append(blob.shape)
            except CannotSay as error:
                self.problems += [f"output {len(names)}: {problem}" for problem in error.problems]
        return names


def _check_shapes(file: NetFile, outputs: Sequence[str], shapes: Sequence[Shape]) -> None:
    """See that the net can be built and gives torch's shapes, before anything is written.

    Raises:
        NetError: it cannot be built; Untranslatable: other shapes.
    """
    graph = build_graph(file, TEST)
    problems = [
        f"output {name!r}: {tuple(graph.blobs[name])} in Caffe; expected torch's {shape}"
        for name, shape in zip(outputs, shapes, strict=True)
        if tuple(graph.blobs[name]) != shape
    ]
    if problems:
        raise Untranslatable(problems)


def _depends(value: object) -> bool:
    """Whether something depends on the inputs."""
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_depends, value)) if isinstance(value, list) else isinstance(value, Blob | Padded)


def _computed(node: torch.fx.Node, args: list[object], kwargs: dict[str, object]) -> object:
    """An operation on constants, computed now. Raises CannotSay for a random one."""
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise CannotSay("draws random numbers; expected a module that gives the same each time")
    if not isinstance(node.target, torch._ops.OpOverload):
        raise CannotSay("it has no translation to Caffe's layers")
    with torch.no_grad():
        result = node.target(*_plain(args), **_plain(kwargs))
    return [Constant(one) for one in result] if isinstance(result, list | tuple) else Constant(result)


def _plain(value: object) -> object:
    if isinstance(value, Constant):
        return value.tensor
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _by_schema(schema: torch._C.FunctionSchema, args: list[object], kwargs: dict[str, object]) -> list[object]:
    """All arguments of an operation in order, those left out with their defaults."""
    rest = schema.arguments[len(args) :]
    return [*args, *(kwargs.get(one.name, one.default_value if one.has_default_value() else None) for one in rest)]


def _replace_upsamples(net: NetParameter, writer: Writer) -> None:
    """Upsample as a Python layer, where the dialect lacks it."""
    if writer.knows("Upsample") or not writer.knows_field("PythonParameter", "param_str"):
        return
    for layer in net.layer:
        if (python := upsample_to_python(layer)) is not None:
            layer.CopyFrom(python)
