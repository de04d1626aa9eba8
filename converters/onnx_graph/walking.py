"""Through a net layer by layer: which blob holds which value, what is left out, what comes out."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from caffe_compat import Net
from caffe_compat.deciding import deciding_blob
from caffe_compat.errors import LayerError, NetError
from caffe_compat.graph import Node
from converters.onnx_graph.finishing import finish
from converters.onnx_graph.registry import BatchFixed, Dims, Place, find_rule, is_left_out
from converters.onnx_graph.writing import Writer

#: The name of the output that ``Walk.add_labels`` adds.
LABELS = "labels"


class Walk:
    """One way through a net's layers, which are set to the shapes ``dims``.

    Raises:
        NetError: with every layer that cannot be expressed; BatchFixed: with every one that cannot with an open batch.
    """

    def __init__(self, net: Net, dims: Mapping[str, Dims]) -> None:
        self.net, self.dims = net, dims
        self.writer = Writer(net.graph.blobs)
        self._values: dict[str, str | None] = {name: name for name in net.graph.feeds}
        """Blob → the value that it holds by now, None where a layer makes it that is left out."""
        self._makers: dict[str, tuple[str, str]] = {}
        """Value → the blob that held it first, and the layer that made it."""
        self._left_out: list[Node] = []
        self._read: set[str | None] = set()
        """Values that layers of the model read."""
        self._labels: list[tuple[str, ValueInfoProto]] = []
        problems: list[str] = []
        fixed: list[str] = []
        for node in net.graph.nodes:
            if node.layer.is_source:
                continue
            try:
                self._express(node)
            except BatchFixed as error:
                fixed += error.at(node.where)
            except LayerError as error:
                problems += error.at(node.where)
            for top in node.tops:  # what follows is judged all the same
                self._values.setdefault(top, top)
        if problems:
            raise NetError(problems)
        if fixed:
            raise BatchFixed(fixed)
        if self._left_out:
            told = ", ".join(f"{node.layer.name} ({node.layer.type})" for node in self._left_out)
            self.writer.remarks.append(f"left out: {told}")

    def _express(self, node: Node) -> None:
        bottoms = [self._values[bottom] for bottom in node.bottoms]
        leaves_out = is_left_out(node.layer)
        if None in bottoms and not leaves_out:
            missing = node.bottoms[bottoms.index(None)]
            raise LayerError(f"reads {missing!r}, which a loss or a measure makes; expected none, they are left out")
        own_dims = ([tuple(self.dims[name]) for name in names] for names in (node.bottoms, node.tops))
        self.writer.begin(node.layer.name)
        found = find_rule(node.layer)(self.writer, Place(node, bottoms, *own_dims))
        tops = [found] if isinstance(found, str) else found
        for blob, value in zip(node.tops, tops, strict=True):
            self._values[blob] = value
            if value is not None and value not in self.net.graph.feeds:
                self._makers.setdefault(value, (blob, node.layer.name))
        if leaves_out:
            self._left_out.append(node)
        if any(tops):
            self._read.update(value for value in bottoms if value not in tops)

    def add_labels(self) -> None:
        """One more output: uint8 (N, H, W), the best class of each pixel. Raises NetError."""
        if LABELS in self.dims:
            raise NetError(f"there is a blob {LABELS!r} in the net already; expected none, to add that output")
        name, holds_labels = deciding_blob(self.net)
        value, dims = self._values[name], self.dims[name]
        if holds_labels and dims[1] != 1:
            raise NetError(f"the blob {name!r} holds {dims[1]} labels for each pixel; expected one, to add {LABELS!r}")
        self.writer.begin(LABELS)
        if holds_labels:
            labels = self.writer.add("Squeeze", self.writer.whole(value), self.writer.ints([1]))
        else:
            labels = self.writer.add("ArgMax", value, axis=1, keepdims=0, select_last_index=1)
        kind = TensorProto.UINT8 if holds_labels or dims[1] <= 256 else TensorProto.INT32
        labels = self.writer.add("Cast", labels, to=kind)
        self._labels = [(labels, helper.make_tensor_value_info(LABELS, kind, (dims[0], *dims[2:])))]

    def graph(self) -> GraphProto:
        """The finished graph. Raises NetError where the net has no output that is not left out."""
        outputs = [(value, self._info(blob, self._name(value, blob))) for value, blob in self._outputs()] + self._labels
        if not outputs:
            raise NetError(f"{self.net.name or 'the net'}: no output but losses and measures, which are left out")
        names = {value: self._name(value, blob) for value, (blob, _) in self._makers.items()}
        inputs = [self._info(name, name) for name in self.net.graph.feeds]
        return finish(self.writer, self.net.name or "net", inputs, outputs, names)

    def _outputs(self) -> list[tuple[str, str]]:
        """Value and blob of the net's outputs, then of what only layers read that are left out."""
        own = [(self._values[blob], blob) for blob in self.net.graph.outputs]
        outputs = {(value, blob): None for value, blob in own if value not in (None, blob)}
        known = self._read | {value for value, _ in outputs}
        read = [self._values[bottom] for node in self._left_out for bottom in node.bottoms]
        outputs |= {
            (value, self._makers[value][0]): None for value in read if value in self._makers and value not in known
        }
        return list(outputs)

    def _name(self, value: str, blob: str) -> str:
        """A blob's own name for the last value that it holds, also that of the layer for one before."""
        is_last = self._values[blob] == value and blob not in self.net.graph.feeds
        return blob if is_last else f"{blob}/{self._makers[value][1]}"

    def _info(self, blob: str, name: str) -> ValueInfoProto:
        """A blob as input or output. Where items are chosen at run time, nothing is said of their number."""
        chosen = any(node.layer.type == "Filter" for node in self.net.graph.nodes)
        dims = [None if chosen and isinstance(dim, str) else dim for dim in self.dims[blob]]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
