"""What is done to a net once all of its layers are there: outputs, unused tops, in-place layers, shared parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, count

from converters.tracing.values import Weight
from prototxt.caffe_pb2 import NetParameter

#: Layers that may write over their bottom.
_MAY_OVERWRITE = ("BN", "BatchNorm", "Dropout", "ELU", "PReLU", "ReLU", "Scale", "Sigmoid", "TanH")
#: Layers whose top may be written over: none of them needs it for its gradient, or shares its memory with others.
_MAY_BE_OVERWRITTEN = (
    *("BN", "BatchNorm", "Concat", "Convolution", "Deconvolution", "Dropout", "InnerProduct"),
    *("Pooling", "PReLU", "ReLU", "Scale", "Upsample"),
)


def keep_outputs(net: NetParameter, inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Outputs as blobs that no layer takes, which Caffe's outputs are.

    Others, inputs, and an output that is given more than once, are copied by a Split.
    """
    taken = {bottom for layer in net.layer for bottom in layer.bottom} | set(inputs)
    taken |= {output for output, times in Counter(outputs).items() if times > 1}
    used = {name for layer in net.layer for name in (layer.name, *layer.top)} | set(inputs)
    kept: list[str] = []
    for output in outputs:
        name = output
        if output in taken:
            name = _unused(f"{output}_output", used)
            used.add(name)
            net.layer.add(name=name, type="Split", bottom=[output], top=[name])
        kept.append(name)
    return kept


def silence(net: NetParameter, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """One Silence for all inputs and tops that nobody takes and that are no outputs: Caffe would make them outputs."""
    made = dict.fromkeys((*inputs, *(top for layer in net.layer for top in layer.top)))
    taken = {bottom for layer in net.layer for bottom in layer.bottom} | set(outputs)
    if unused := [name for name in made if name not in taken]:
        name = _unused("silence", {layer.name for layer in net.layer})
        net.layer.add(name=name, type="Silence", bottom=unused)


def _unused(name: str, used: set[str]) -> str:
    """The name, with a number behind it if it is used."""
    return next(one for one in chain([name], (f"{name}_{i}" for i in count(2))) if one not in used)


def run_in_place(net: NetParameter, inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Let layers write over a bottom that nobody else takes, as Caffe's nets do. Returns the outputs' new names."""
    readers = Counter(bottom for layer in net.layer for bottom in layer.bottom)
    new_names: dict[str, str] = {}
    writers: dict[str, str] = {}
    for layer in net.layer:
        before = list(layer.bottom)
        layer.bottom[:] = [new_names.get(bottom, bottom) for bottom in before]
        alone = len(before) == len(layer.top) == 1 and readers[before[0]] == 1
        if (
            alone
            and layer.type in _MAY_OVERWRITE
            and before[0] not in (*inputs, *outputs)
            and writers.get(layer.bottom[0]) in _MAY_BE_OVERWRITTEN
        ):
            new_names[layer.top[0]] = layer.bottom[0]
            layer.top[:] = layer.bottom[:]
        writers.update(dict.fromkeys(layer.top, layer.type))
    return [new_names.get(output, output) for output in outputs]


def share(net: NetParameter, weights: Mapping[str, Sequence[Weight]]) -> None:
    """Name the parameters that several layers hold, so that Caffe has them once."""
    uses = Counter(weight.key for own in weights.values() for weight in own if weight.key)
    for layer in net.layer:
        own = weights.get(layer.name, ())
        if not any(uses[weight.key] > 1 for weight in own if weight.key):
            continue
        for i, weight in enumerate(own):
            if i == len(layer.param):
                layer.param.add()
            if weight.key and uses[weight.key] > 1:
                layer.param[i].name = weight.key
