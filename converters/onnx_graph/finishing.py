"""From what a Writer gathered to a graph: nothing unused, and values named as the blobs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import GraphProto, NodeProto, ValueInfoProto, helper

from converters.onnx_graph.writing import Writer, untaken


def finish(
    writer: Writer,
    name: str,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[tuple[str, ValueInfoProto]],
    names: Mapping[str, str],
) -> GraphProto:
    """The graph that computes the outputs.

    Args:
        writer: what was written.
        name: of the graph.
        inputs: those that may be used, by their names; the others are left out.
        outputs: values, and what they are as outputs.
        names: value → what to call it where it is no output.
    """
    writer.end()
    final = {info.name: info.name for info in inputs} | {constant: constant for constant in writer.constants}
    for value, info in outputs:
        if value in final:  # an input, a constant or an output already
            node = helper.make_node("Identity", [value], [info.name], name=writer.node_name(info.name))
            writer.nodes.append(node)
            final[info.name] = info.name
        else:
            final[value] = info.name
    nodes = _needed(writer.nodes, {name for value, info in outputs for name in (value, info.name)})
    taken = set(final.values())
    for node in nodes:
        for i, value in enumerate(node.output):
            if value not in final:
                wanted = names.get(value, node.name if len(node.output) == 1 else f"{node.name}.{i}")
                final[value] = untaken(wanted, taken)
        node.input[:] = [final.get(value, value) for value in node.input]
        node.output[:] = [final[value] for value in node.output]
    used = {value for node in nodes for value in node.input}
    return helper.make_graph(
        nodes,
        name,
        [info for info in inputs if info.name in used],
        [info for _, info in outputs],
        writer.initializers(constant for constant in writer.constants if constant in used),
    )


def _needed(nodes: Sequence[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The nodes that lead to what is wanted, in their order; a mask that nobody reads is no output of its pooling."""
    needed: list[NodeProto] = []
    for node in reversed(nodes):
        if not wanted.intersection(node.output):
            continue
        if node.op_type == "MaxPool" and len(node.output) == 2 and node.output[1] not in wanted:
            del node.output[1:]
        wanted.update(node.input)
        needed.append(node)
    return needed[::-1]
