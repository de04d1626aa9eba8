"""Nodes, constants and weights of an ONNX graph while it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converters.onnx_graph.registry import BatchFixed, Dims, Place

#: The set of operators. 17 is as old as LayerNormalization, and what engines of 2022 and later read.
OPSET = 17


def untaken(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken; now it is."""
    found, count = name, 2
    while found in taken:
        found, count = f"{name}#{count}", count + 1
    taken.add(found)
    return found


class Writer:
    """Gathers nodes, layer by layer. Their outputs have provisional names until ``finishing.finish``.

    Args:
        blobs: names that constants and parameters must not have.
    """

    def __init__(self, blobs: Iterable[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        """Every constant and parameter by its name."""
        self.remarks: list[str] = []
        """What the user should know of the model."""
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._parameters: dict[tuple[int, tuple[int, ...]], str] = {}
        self._whole: dict[str, str] = {}
        self._names = set(blobs)
        self._node_names: set[str] = set()
        self._layer = ""
        self._first = 0

    def begin(self, layer: str) -> None:
        """What is added from now on belongs to this layer."""
        self.end()
        self._layer, self._first = self.node_name(layer), len(self.nodes)

    def end(self) -> None:
        """Name the nodes of a layer: after it, and with their operators where they are several."""
        own = self.nodes[self._first :]
        for node in own:
            node.name = self._layer if len(own) == 1 else self.node_name(f"{self._layer}/{node.op_type}")
        self._first = len(self.nodes)

    def node_name(self, name: str) -> str:
        """The name for a node, with a number where another one has it."""
        return untaken(name, self._node_names)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """A node with one output. Returns the output."""
        return self.add_with_tops(operator, 1, *inputs, **attributes)[0]

    def add_with_tops(self, operator: str, count: int, *inputs: str, **attributes: object) -> list[str]:
        """A node with several outputs. Returns them."""
        outputs = [f"{len(self.nodes)}:{i}" for i in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    # ---- constants

    def constant(self, values: object, dtype: type = np.float32) -> str:
        """An array, once for all who want the same."""
        array = np.ascontiguousarray(values, dtype).reshape(np.shape(values))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = untaken(f"constant_{len(self._known) + 1}", self._names)
            self.constants[self._known[key]] = array
        return self._known[key]

    def ints(self, values: Iterable[int]) -> str:
        """A list of int64."""
        return self.constant(list(values), np.int64)

    def parameter(self, place: Place, name: str, shape: Sequence[int] | None = None) -> str:
        """A parameter of a layer, perhaps in another shape, once for all layers that share it in this one."""
        index = [param.spec.name for param in place.node.params].index(name)
        blob = place.layer.blobs[index]
        key = (id(blob.parameter), tuple(blob.shape if shape is None else shape))
        if key not in self._parameters:
            self._parameters[key] = untaken(f"{place.layer.name}.{name}", self._names)
            self.constants[self._parameters[key]] = place.values(name).reshape(key[1])
        return self._parameters[key]

    # ---- what many rules need

    def floats(self, whole: str) -> str:
        """Whole numbers (int64) as the floats that Caffe keeps them as. ``whole`` gives them back."""
        value = self.add("Cast", whole, to=TensorProto.FLOAT)
        self._whole[value] = whole
        return value

    def whole(self, value: str) -> str:
        """Whole numbers that Caffe keeps as floats, as int64."""
        return self._whole.get(value) or self.add("Cast", value, to=TensorProto.INT64)

    def ones_where(self, condition: str) -> str:
        """1 where it holds, else 0."""
        return self.add("Cast", condition, to=TensorProto.FLOAT)

    def reshape(self, value: str, dims: Dims) -> str:
        """The value in another shape. Raises BatchFixed where more than one axis goes with the batch."""
        sizes = [dim if isinstance(dim, int) else -1 for dim in dims]
        if sizes.count(-1) > 1:
            raise BatchFixed(f"the shape {dims} has more than one axis that goes with the number of images")
        return self.add("Reshape", value, self.constant(np.array(sizes, np.int64), np.int64))

    def shape(self, value: str, dims: Dims) -> str:
        """A shape as a value: a constant, or with the number of images at the front taken from ``value``.

        Raises BatchFixed where another axis goes with it.
        """
        if all(isinstance(dim, int) for dim in dims):
            return self.ints(dims)
        if not all(isinstance(dim, int) for dim in dims[1:]):
            raise BatchFixed(f"the shape {dims} goes with the number of images elsewhere than in front")
        images = self.add("Shape", value, start=0, end=1)
        return self.add("Concat", images, self.ints(dims[1:]), axis=0)

    def slice(self, value: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> str:
        """A window of the value."""
        return self.add("Slice", value, self.ints(starts), self.ints(ends), self.ints(axes))

    def scaled(self, value: str, factor: float, offset: float = 0.0) -> str:
        """factor x + offset, without what changes nothing."""
        if factor != 1:
            value = self.add("Mul", value, self.constant(factor))
        return self.add("Add", value, self.constant(offset)) if offset else value

    def initializers(self, names: Iterable[str]) -> list[TensorProto]:
        """The constants of these names, as a model holds them."""
        return [numpy_helper.from_array(self.constants[name], name) for name in names]
