"""From a net to what an engine runs: its batch normalisation folded, its convolutions laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from caffe_compat.absorbing import absorb
from caffe_compat.engine.flow import Flow, Operation
from caffe_compat.engine.onednn import Geometry
from caffe_compat.engine.operators import Convolution
from caffe_compat.engine.rows import RowOperator
from caffe_compat.engine.winograd import WinogradConvolution
from prototxt.caffe_pb2 import NetParameter
from prototxt.net_file import NetFile

if TYPE_CHECKING:
    from caffe_compat.net import Net

_WORTH_WINOGRAD = 128
"""Channels, in and out, from which it is faster than the direct sum."""


def folded(net: Net) -> Net:
    """A net of its own that computes the same by fewer layers, on the same device."""
    message = NetParameter()
    message.CopyFrom(net.graph.message)
    for layer in message.layer:  # what they ask for has been decided
        del layer.include[:], layer.exclude[:]
    blobs = [
        [blob.parameter.detach().view(blob.shape).float().cpu().numpy() for blob in node.layer.blobs]
        for node in net.graph.nodes
    ]
    message, blobs, _ = absorb(message, blobs)
    shapes = {name: net.graph.blobs[name] for name in net.graph.feeds}
    file = NetFile.from_message(message, net.dialect)
    copy = type(net)(file, net.graph.context.phase, dialect=net.dialect, input_shapes=shapes, fill=False)
    with torch.no_grad():
        for node, own in zip(copy.graph.nodes, blobs, strict=True):
            for blob, values in zip(node.layer.blobs, own, strict=True):
                blob.parameter.copy_(torch.from_numpy(values).view(blob.parameter.shape))
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    return copy.to(device)


def convolutions(flow: Flow, dtype: torch.dtype, winograd: bool) -> dict[int, RowOperator]:
    """An operator for every 2-D convolution of one bottom, by ``id`` of the operation; the layers' own weights go."""
    found = {}
    able = [operation for operation in flow.operations if _is_plain(operation)]
    for operation in able:
        found[id(operation)] = _convolution(operation, dtype, winograd)
    for operation in able:
        operation.node.layer.to("meta")  # shapes, which are still held against the bottoms, without memory
    return found


def _is_plain(operation: Operation) -> bool:
    layer = operation.node.layer
    if layer.type != "Convolution" or len(operation.reads) != 1:
        return False
    return layer.axis == 1 and len(layer.window.kernel) == 2


def _convolution(operation: Operation, dtype: torch.dtype, winograd: bool) -> RowOperator:
    layer = operation.node.layer
    weight, *rest = (blob.parameter.detach().view(blob.shape) for blob in layer.blobs)
    bias = rest[0].flatten().to(dtype) if rest else None
    window = layer.window
    geometry = Geometry(window.stride, window.pad, window.dilation, layer.group)
    if winograd and _suits_winograd(weight, window.kernel, geometry):
        return WinogradConvolution(weight, bias, operation.relu)
    plane = operation.node.bottom_shapes[0][2:]
    return Convolution(weight.to(dtype), bias, geometry, operation.relu, plane)


def _suits_winograd(weight: torch.Tensor, kernel: tuple[int, ...], geometry: Geometry) -> bool:
    same = (kernel, geometry) == ((3, 3), Geometry(pad=(1, 1)))
    return same and weight.device.type == "cpu" and min(weight.shape[:2]) >= _WORTH_WINOGRAD


def halve(flow: Flow, found: dict[int, RowOperator], dtype: torch.dtype) -> None:
    """Give layers that run as they are their parameters in the type that is computed in."""
    for operation in flow.operations:
        if id(operation) not in found:
            operation.node.layer.to(dtype)
