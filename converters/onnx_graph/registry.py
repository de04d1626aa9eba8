"""Which function expresses which layer type, and why some have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffe_compat.errors import LayerError
from caffe_compat.graph import Node
from caffe_compat.layer_base import TorchLayer
from prototxt.caffe_pb2 import LayerParameter

if TYPE_CHECKING:
    from converters.onnx_graph.writing import Writer

#: A shape in which an axis that goes with the batch is a name.
Dims = tuple[int | str, ...]


class BatchFixed(LayerError):
    """What can be said for one number of images only."""


@dataclass(frozen=True)
class Place:
    """A layer that is to be expressed: its node of the net's graph, and what its bottoms are called in ONNX."""

    node: Node
    bottoms: Sequence[str]
    bottom_dims: Sequence[Dims]
    top_dims: Sequence[Dims]

    @property
    def layer(self) -> TorchLayer:
        """The layer, with what ``setup`` and ``top_shapes`` have found."""
        return self.node.layer

    @property
    def message(self) -> LayerParameter:
        """The layer's message."""
        return self.node.layer.message

    def values(self, name: str) -> np.ndarray:
        """A parameter of the layer by its name in torch, in float32."""
        names = [param.spec.name for param in self.node.params]
        return np.asarray(self.layer.blobs[names.index(name)].data, np.float32)


#: Adds the nodes of a layer. Gives the name of each top's value, None for a top that is left out. Raises LayerError.
Rule = Callable[["Writer", Place], "str | Sequence[str | None]"]

_rules: dict[str, Rule] = {}

_NO_OPERATOR = "; leave it out of the net, and run it beside the model"
_INEXPRESSIBLE = {
    "AdaptiveBiasChannel": "it raises scores by labels, as trainings with weak labels do; leave it out of the net",
    "BiasChannel": "it raises scores by labels, as trainings with weak labels do; leave it out of the net",
    "DenseCRF": "ONNX has no operator for the filter on a permutohedral lattice" + _NO_OPERATOR,
    "DomainTransform": "ONNX has no operator for its recursion from pixel to pixel" + _NO_OPERATOR,
    "DomainTransformForwardOnly": "ONNX has no operator for its recursion from pixel to pixel" + _NO_OPERATOR,
    "MultiStageMeanfield": "ONNX has no operator for the filter on a permutohedral lattice" + _NO_OPERATOR,
    "UniqueLabel": "it lists labels, as trainings with weak labels do; leave it out of the net",
}


_MEASURES = ("Accuracy", "BinaryAccuracy", "EltwiseAccuracy", "RedAccuracy", "SegAccuracy")
_WRITERS = ("HDF5Output", "MatWrite")


def is_left_out(layer: TorchLayer) -> bool:
    """Whether a layer does not belong into a model: losses and measures want labels, others write files.

    What they read becomes an output.
    """
    return layer.is_loss or layer.type in (*_MEASURES, *_WRITERS)


def _nothing(writer: Writer, place: Place) -> list[str | None]:
    """No node."""
    return [None] * len(place.top_dims)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule under Caffe's type names; for a Python layer under ``Python MODULE.CLASS``.

    Raises:
        ValueError: the name is taken.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            if name in _rules:
                raise ValueError(f"there is a rule for {name} already, {_rules[name].__qualname__}")
            _rules[name] = function
        return function

    return register


def find_rule(layer: TorchLayer) -> Rule:
    """The rule for a layer. Raises LayerError with the reason where there is none."""
    python = layer.message.python_param
    name = f"Python {python.module}.{python.layer}" if layer.type == "Python" else layer.type
    if name in _rules:
        return _rules[name]
    if is_left_out(layer):
        return _nothing
    own = f'no rule for it; `@converters.onnx_graph.registry.rule("{name}")` registers one'
    raise LayerError(_INEXPRESSIBLE.get(name, own))
