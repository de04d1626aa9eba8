"""A net as an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
from onnx import ModelProto, helper

from caffe_compat import Net
from caffe_compat.deciding import deciding_blob
from caffe_compat.errors import NetError
from converters.onnx_graph import rules as rules  # registers them
from converters.onnx_graph.dimensions import free_dims, image_count, shapes_for, with_batch
from converters.onnx_graph.registry import BatchFixed, Dims
from converters.onnx_graph.walking import Walk
from converters.onnx_graph.writing import OPSET
from prototxt import text
from prototxt.caffe_pb2 import TEST

_IR_VERSION = 8  # the oldest that OPSET goes with
_LARGEST = 2**31 - 2**20  # protobuf's limit, less some room for the nodes


@dataclass
class Exported:
    """A model and what the user should know of it."""

    model: ModelProto
    remarks: list[str]


def to_onnx(
    net: Net, *, batch: int | None = None, labels: bool = False, metadata: Mapping[str, str] | None = None
) -> Exported:
    """The net as it stands, in its phase, with its weights.

    Inputs are those blobs from outside that some output depends on, float32. Outputs are the net's, and what losses and
    measures read, which are left out themselves. Blobs keep their names; of a blob that is written in place the last
    value does.

    Args:
        net: the net; it is left as it was.
        batch: the number of images; by default it stays open, named ``N``, where the net allows it.
        labels: adds the output ``labels``, uint8 (N, H, W), the best class of each pixel; of equal scores the last, as
            in Caffe's ArgMax.
        metadata: more for the model's ``metadata_props``.

    Raises:
        NetError: with every layer that cannot be expressed, and why; there is no output; the weights are too large.
    """
    size = 4 * net.graph.parameter_count
    if size > _LARGEST:
        raise NetError(f"weights of {size / 2**30:.1f} GiB; expected less than 2 GiB, which is all that a file holds")
    images = image_count(net)
    if batch is not None and images is None:
        raise NetError(f"a batch of {batch} for a net without images; expected an input (N, C, H, W)")
    remarks = []
    if batch is None:
        try:
            walk = _walk(net, free_dims(net), labels)
        except BatchFixed as error:
            batch = images
            remarks.append(f"the number of images is fixed at {batch}; --batch N fixes another. The reason: {error}")
    if batch is not None:
        with shapes_for(net, with_batch(net, batch)) as shapes:
            walk = _walk(net, shapes, labels)
    graph = walk.graph()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    model.producer_name = "caffe-segnet"
    helper.set_model_props(model, {**_describe(net), **(metadata or {})})
    onnx.checker.check_model(model, full_check=True)
    return Exported(model, [*remarks, *dict.fromkeys(walk.writer.remarks)])


def _walk(net: Net, dims: Mapping[str, Dims], labels: bool) -> Walk:
    walk = Walk(net, dims)
    if labels:
        walk.add_labels()
    return walk


def _describe(net: Net) -> dict[str, str]:
    """What the model says of itself, for people and programs."""
    said = {
        "name": net.name,
        "dialect": net.dialect,
        "phase": "TEST" if net.graph.context.phase == TEST else "TRAIN",
        "preprocessing": "float32, channels blue green red, 0 to 255; what the training subtracted is not in the model",
    }
    for node in net.graph.nodes:
        if node.layer.is_source and node.message.HasField("transform_param"):
            said[f"transform of {node.layer.name}"] = text.format(node.message.transform_param)
    try:
        name, holds_labels = deciding_blob(net)
    except NetError:
        return said  # no segmentation
    return said if holds_labels else said | {"classes": str(net.blobs[name].shape[1])}


@contextmanager
def without_samples(net: Net) -> Iterator[list[str]]:
    """While Dropout that samples in TEST passes everything on, so that the outputs follow from the inputs alone.

    Gives the names of these layers.
    """
    sampling = [node.layer for node in net.graph.nodes if getattr(node.layer, "samples_in_test", False)]
    for layer in sampling:
        layer.samples_in_test = False
    try:
        yield [layer.name for layer in sampling]
    finally:
        for layer in sampling:
            layer.samples_in_test = True
