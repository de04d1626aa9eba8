"""A model in ONNX Runtime beside the net that it was made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto

from caffe_compat import Net
from caffe_compat.deciding import deciding_blob
from converters.onnx_graph.dimensions import with_batch
from converters.onnx_graph.registry import is_left_out
from converters.onnx_graph.walking import LABELS

#: The least share of labels that must agree.
LEAST = 0.999


@dataclass
class Comparison:
    """One output."""

    name: str
    difference: float
    """The largest."""
    scale: float
    """The largest value of the net's own."""
    agreement: float | None
    """The share of labels that are the same: the best channel of each place; None where there are no channels."""

    def describe(self) -> str:
        """A line for people."""
        line = f"{self.name}: largest difference {self.difference:.2g} (values up to {self.scale:.3g})"
        return line if self.agreement is None else f"{line}, labels the same: {self.agreement:.4%}"


def random_feeds(model: ModelProto, images: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Numbers from 0 to 255 for images, 0 and 1 for everything else; so many images where their number is open."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value or images for dim in value.type.tensor_type.shape.dim]
        values = random.uniform(0, 255, shape) if len(shape) == 4 else random.integers(0, 2, shape)
        feeds[value.name] = values.astype(np.float32)
    return feeds


def open_session(model: ModelProto, threads: int = 0) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU; ``threads`` 0 means as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run_model(model: ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by ONNX Runtime."""
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def run_net(net: Net, feeds: dict[str, np.ndarray]) -> None:
    """Run what a model has of the net, which takes the number of images of these inputs and keeps every blob."""
    images = next((len(values) for values in feeds.values() if values.ndim == 4), None)
    shapes = with_batch(net, images) if images else {}
    for name, shape in (shapes | {name: values.shape for name, values in feeds.items()}).items():
        net.blobs[name].reshape(*shape)
    net.reshape()
    for name, values in feeds.items():
        net.blobs[name].data[...] = values
    with torch.no_grad():
        for i, node in enumerate(net.graph.nodes):
            if not (node.layer.is_source or is_left_out(node.layer)):
                net._forward(i, i)


def compare(net: Net, model: ModelProto, feeds: dict[str, np.ndarray] | None = None) -> list[Comparison]:
    """Every output of a model beside the net's, for random inputs or these.

    Dropout that samples makes the two differ; see ``model.without_samples``. Near-ties in pooling windows do too: which
    value is the largest then hangs on rounding. Beside a net in float64 (``net.double()``) only the model's count.
    """
    feeds = feeds or random_feeds(model)
    found = run_model(model, feeds)
    run_net(net, feeds)
    argmaxes = {top for node in net.graph.nodes if node.layer.type == "ArgMax" for top in node.tops}
    comparisons = []
    for name, values in found.items():
        are_labels = name == LABELS or name in argmaxes
        expected = _labels_of(net) if name == LABELS else _blob(net, name)
        both = [np.asarray(each, np.float32) for each in (expected, values)]
        labels = both if are_labels else [each.argmax(1) for each in both] if _has_classes(values) else None
        comparisons.append(
            Comparison(
                name,
                float(np.abs(both[0] - both[1]).max(initial=0)),
                float(np.abs(both[0]).max(initial=0)),
                float((labels[0] == labels[1]).mean()) if labels else None,
            )
        )
    return comparisons


def _blob(net: Net, output: str) -> np.ndarray:
    """The values of the blob that an output is: of that name, or an input that a layer overwrites."""
    overwritten = (name for name in net.graph.feeds if output.startswith(f"{name}/"))
    return net.blobs[output if output in net.blobs else next(overwritten)].data


def _has_classes(values: np.ndarray) -> bool:
    return values.ndim > 1 and values.shape[1] > 1


def _labels_of(net: Net) -> np.ndarray:
    """The best class of each pixel (N, H, W), the last of equal ones."""
    name, holds_labels = deciding_blob(net)
    values = net.blobs[name].data
    return values[:, 0] if holds_labels else values.shape[1] - 1 - values[:, ::-1].argmax(1)
