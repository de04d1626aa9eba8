"""RNN and LSTM, step by step: ONNX's own cannot begin a sequence anew in the middle."""

from __future__ import annotations

import numpy as np

from converters.onnx_graph.registry import BatchFixed, Place, rule
from converters.onnx_graph.writing import Writer


@rule("RNN", "LSTM")
def recurrent(writer: Writer, place: Place) -> list[str]:
    """The inputs of all steps at once, then from step to step."""
    layer = place.layer
    x, cont, *more = place.bottoms
    if any(isinstance(dim, str) for dim in place.bottom_dims[0][:2]):
        raise BatchFixed("its steps and sequences are fixed")
    steps, batch, *_ = place.node.bottom_shapes[0]
    rows = layer.gates * layer.outputs
    flat = writer.reshape(x, (steps, batch, int(np.prod(place.node.bottom_shapes[0][2:]))))
    inputs = writer.add(
        "Add", writer.add("MatMul", flat, _turned(writer, place, "weight")), writer.parameter(place, "bias")
    )
    if layer.has_static:
        static = writer.reshape(more[0], (batch, int(np.prod(place.node.bottom_shapes[2][1:]))))
        inputs = writer.add("Add", inputs, writer.add("MatMul", static, _turned(writer, place, "static_weight")))
    if layer.exposed:
        states = [writer.reshape(state, (batch, layer.outputs)) for state in more[layer.has_static :]]
    else:
        writer.remarks.append(
            f"{layer.name} begins every run with states of zero, as a model keeps nothing between runs"
        )
        states = [writer.constant(np.zeros((batch, layer.outputs)))] * layer.states
    hidden = []
    for step in range(steps):
        gates, goes_on = (writer.slice(value, [step], [step + 1], [0]) for value in (inputs, cont))
        gates = writer.reshape(gates, (batch, rows))
        goes_on = writer.reshape(goes_on, (batch, 1))
        states = [writer.add("Mul", goes_on, state) for state in states]
        gates = writer.add("Gemm", states[0], writer.parameter(place, "hidden_weight"), gates, transB=1)
        states = _STEPS[layer.type](writer, layer.outputs, gates, states)
        hidden.append(writer.reshape(states[0], (1, batch, layer.outputs)))
    y = writer.add("Concat", *hidden, axis=0)
    if layer.type == "RNN":
        product = writer.add("MatMul", y, _turned(writer, place, "output_weight"))
        y = writer.add("Tanh", writer.add("Add", product, writer.parameter(place, "output_bias")))
    last = [writer.reshape(state, (1, batch, layer.outputs)) for state in states]
    return [y, *last][: len(place.top_dims)]


def _turned(writer: Writer, place: Place, name: str) -> str:
    return writer.constant(place.values(name).T)


def _rnn(writer: Writer, outputs: int, gates: str, states: list[str]) -> list[str]:
    return [writer.add("Tanh", gates)]


def _lstm(writer: Writer, outputs: int, gates: str, states: list[str]) -> list[str]:
    take, keep, show, new = writer.add_with_tops("Split", 4, gates, writer.ints([outputs] * 4), axis=1)
    take, keep, show = (writer.add("Sigmoid", gate) for gate in (take, keep, show))
    kept = writer.add("Mul", keep, states[1])
    cell = writer.add("Add", kept, writer.add("Mul", take, writer.add("Tanh", new)))
    return [writer.add("Mul", show, writer.add("Tanh", cell)), cell]


_STEPS = {"RNN": _rnn, "LSTM": _lstm}
