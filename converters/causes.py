"""Why a layer may deviate from its record: what differs between what went in there and here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from caffe_compat import Net
from caffe_compat.graph import Node
from converters.deviations import TOLERANCE, bare, deviation
from converters.record import crc
from converters.record_file import Expected, Record, Stage
from prototxt import text
from prototxt.caffe_pb2 import LayerParameter
from prototxt.errors import CaffeError
from prototxt.net_file import NetFile, parse_net


@dataclass
class Seen:
    """A layer that deviates, with what it was fed and what it made of it."""

    node: Node
    stage: Stage
    bottoms: list[torch.Tensor]
    top: torch.Tensor
    want: Expected


def differing_weights(net: Net, record: Record) -> dict[str, list[str]]:
    """Layer → what differs between its parameters and the recorded ones, bit for bit."""
    found: dict[str, list[str]] = {}
    for name, blobs in net.params.items():
        stored = record.params.get(name, [])
        if len(stored) != len(blobs):
            found[name] = [f"{len(blobs)} parameter blobs here, {len(stored)} in the record"]
            continue
        for i, (blob, (shape, checksum)) in enumerate(zip(blobs, stored, strict=True)):
            if bare(blob.shape) != bare(shape):
                found.setdefault(name, []).append(f"blob {i} of {name} is {tuple(blob.shape)}, {shape} in the record")
            elif crc(blob.data) != checksum:
                found.setdefault(name, []).append(f"the weights differ: blob {i} of {name}")
    return found


def causes(seen: Seen, record: Record, weights: Mapping[str, list[str]]) -> list[str]:
    """What is likely to be wrong with a layer that deviates though it was fed the right values."""
    found = [*weights.get(seen.node.layer.name, []), *_settings(seen.node.message, record)]
    if bare(seen.top.shape) != bare(seen.want.shape):
        found.append(_shapes(seen))
    elif seen.node.layer.type == "BN" and _other_mode_fits(seen):
        mode = "LEARN" if seen.node.layer.affine_only else "INFERENCE"
        found.append(f"with `bn_mode: {mode}` it would be as recorded")
    return found or ["it was fed the same, and has the same weights and settings: the layer itself computes otherwise"]


def differing_layers(file: NetFile, record: Record) -> list[str]:
    """Each layer that is written otherwise than in the record's prototxt, with the lines."""
    return [f"layer {layer.name!r}: {text}" for layer in file.message.layer for text in _settings(layer, record)]


def _settings(layer: LayerParameter, record: Record) -> list[str]:
    """The lines in which a layer is written otherwise in the record's prototxt."""
    ours, theirs = ([line.strip() for line in _lines(one)] for one in (layer, _recorded(record, layer)))
    if not theirs:
        return []
    changes = list(difflib.ndiff(theirs, ours))
    there, here = ([line[2:] for line in changes if line.startswith(sign)] for sign in ("- ", "+ "))
    if not there and not here:
        return []
    said = [", ".join(f"`{line}`" for line in lines) or "nothing" for lines in (there, here)]
    return [f"the prototxt differs: {said[0]} in the record, {said[1]} here"]


def _recorded(record: Record, layer: LayerParameter) -> LayerParameter | None:
    try:
        layers = _layers_of(record.prototxt, record.path)
    except CaffeError:
        return None
    return next((other for other in layers if (other.name, other.type) == (layer.name, layer.type)), None)


@cache
def _layers_of(prototxt: str, path: str) -> list[LayerParameter]:
    return list(parse_net(prototxt, path).message.layer)


def _lines(layer: LayerParameter | None) -> list[str]:
    """What decides of a layer's values; not the names of blobs, which splits change, nor rates and fillers."""
    if layer is None:
        return []
    bare = LayerParameter()
    bare.CopyFrom(layer)
    for unimportant in ("bottom", "top", "param", "include", "exclude", "phase", "loss_weight", "propagate_down"):
        bare.ClearField(unimportant)
    for field, value in bare.ListFields():
        if field.message_type is not None and not isinstance(value, Sequence):
            for filler in [inner.name for inner, _ in value.ListFields() if inner.name.endswith("filler")]:
                value.ClearField(filler)
    return text.format(bare).splitlines()


def _shapes(seen: Seen) -> str:
    ours, theirs = tuple(seen.top.shape), seen.want.shape
    said = f"the shape is {ours} here, {theirs} in the record"
    planes_only = len(ours) == len(theirs) == 4 and ours[:2] == theirs[:2]
    if planes_only and seen.node.layer.type == "Pooling":
        by_one = all(abs(a - b) <= 1 for a, b in zip(ours, theirs, strict=True))
        return said + (": the number of windows is rounded otherwise, or padding differs" if by_one else "")
    return said + (": padding, kernel or stride differs" if planes_only else "")


def _other_mode_fits(seen: Seen) -> bool:
    """Whether SegNet's BN would be as recorded in its other mode."""
    layer, x = seen.node.layer, seen.bottoms[0]
    layer.affine_only = not layer.affine_only
    try:
        with torch.no_grad():
            out = type(layer).forward(layer, x.clone())
    finally:
        layer.affine_only = not layer.affine_only
    first = out[0] if isinstance(out, tuple) else out
    return deviation(first, seen.want) <= TOLERANCE
