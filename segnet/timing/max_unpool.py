"""A second ONNX model of a net, with ONNX's own MaxUnpool, as other exporters write it: for comparison."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

from prototxt.errors import CaffeError


def with_max_unpool(model: ModelProto) -> ModelProto:
    """The model with MaxUnpool in place of ScatterElements and what leads there; the masks' remainders are left out.

    Args:
        model: of ``to_onnx``, for a fixed number of images.

    Raises:
        CaffeError: a pooling rounds up, as of 45 rows to 23: MaxUnpool makes 46 of them.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    producers = {name: node for node in graph.node for name in node.output}
    nodes = []
    for node in graph.node:
        scatter = producers.get(node.input[0]) if node.op_type == "Reshape" else None
        nodes.append(_unpooling(node, scatter, producers) if scatter and scatter.op_type == "ScatterElements" else node)
    del graph.node[:]
    graph.node.extend(_needed(nodes, [output.name for output in graph.output]))
    read = {name for node in graph.node for name in node.input}
    initial = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(initial)
    return made


def _unpooling(reshape: NodeProto, scatter: NodeProto, producers: dict[str, NodeProto]) -> NodeProto:
    """What gives the same as a row that was scattered and then ``reshape``d."""
    _, positions, row = scatter.input
    while producers[positions].op_type != "MaxPool":  # remainder, and shape
        positions = producers[positions].input[0]
    window = {one.name: helper.get_attribute_value(one) for one in producers[positions].attribute}
    if any(window["pads"]):
        raise CaffeError(
            f"{reshape.output[0]}: ONNX's MaxUnpool makes planes of whole windows alone, and the pooling before it had "
            "an odd plane; expected sizes that halve evenly at each pooling, such as multiples of 32"
        )
    values = producers[row].input[0]
    return helper.make_node(
        "MaxUnpool",
        [values, positions, reshape.input[1]],
        reshape.output,
        kernel_shape=window["kernel_shape"],
        strides=window["strides"],
    )


def _needed(nodes: list[NodeProto], wanted: list[str]) -> list[NodeProto]:
    """Those that the outputs depend on."""
    known, kept = set(wanted), []
    for node in reversed(nodes):
        if known.intersection(node.output):
            known.update(node.input)
            kept.append(node)
    return kept[::-1]
