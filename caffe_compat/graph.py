"""The graph of a net before any tensor: layers, splits, shapes, shared parameters, who needs a gradient.

It can be printed, checked and estimated for memory without allocating anything.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caffe_compat.errors import LayerError, NetError
from caffe_compat.layer_base import BlobSpec, Context, TorchLayer
from caffe_compat.shapes import MaskShape, Shape
from prototxt.caffe_pb2 import LayerParameter, NetParameter, ParamSpec

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
    decides_positions: bool = False
    """Whether a mask of a max pooling hangs on its tops."""

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

    def infer_shapes(self, inputs: Mapping[str, Shape], tell: bool = True) -> dict[str, Shape]:
        """The shapes of all blobs for other input shapes, what is to know of them logged unless ``tell`` is False.

        Raises NetError with every layer that does not fit.
        """
        shapes: dict[str, Shape] = {name: tuple(inputs.get(name, self.blobs[name])) for name in self.inputs}
        problems: list[str] = []
        cause: NetError | None = None
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
                cause = cause or error
                for top in node.tops:
                    shapes.pop(top, None)
        if problems:
            raise NetError(problems) from cause
        if tell:
            tell_remarks([node for node, before in zip(self.nodes, old, strict=True) if node.bottom_shapes != before])
        return shapes


def mark_positions(nodes: Sequence[Node]) -> None:
    """Set ``decides_positions`` on every node."""
    before: set[str] = set()  # blobs that lead to a pooling with a mask
    for node in reversed(nodes):
        gives_mask = any(isinstance(shape, MaskShape) for shape in node.top_shapes)
        node.decides_positions = gives_mask or not before.isdisjoint(node.tops)
        if node.decides_positions:
            before.update(node.bottoms)


def tell_remarks(nodes: Sequence[Node]) -> None:
    """Log what the user should know of the layers' shapes."""
    for node in nodes:
        for remark in node.layer.remarks():
            log.warning("%s: %s", node.where, remark)
