"""Nets beside their ONNX models in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

import caffe_compat as caffe
from converters.onnx_graph.comparing import run_model
from converters.onnx_graph.model import to_onnx


def layer(kind: str, param: str = "", bottoms: str = "x", tops: str = "y") -> str:
    """The text of a layer called ``one``; several bottoms or tops have blanks between."""
    lines = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    return f'layer {{ name: "one" type: "{kind}" {" ".join(lines)} {param} }}\n'


def randomised(net: caffe.Net, seed: int = 0) -> caffe.Net:
    """Weights that keep values in range; what stands for variances and numbers of batches is positive."""
    random = np.random.default_rng(seed)
    for node in net.graph.nodes:
        for blob in node.layer.blobs:
            if node.layer.type == "BatchNorm":
                blob.data[...] = random.uniform(0.5, 1.5, blob.shape)
            else:
                blob.data[...] = random.normal(size=blob.shape) * 0.5
    return net


def outputs(net: caffe.Net, feeds: dict[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """What the net computes in the blobs of these names."""
    for name, values in feeds.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.reshape()
    with torch.no_grad():
        net.forward()
    return {name: net.blobs[name].data.copy() for name in names}


def both(net: caffe.Net, feeds: dict[str, np.ndarray], **options) -> tuple[dict, dict]:
    """The outputs of the net, and those of its model; feeds that the model does not have are the net's alone."""
    model = to_onnx(net, **options).model
    found = run_model(model, {value.name: feeds[value.name] for value in model.graph.input})
    return outputs(net, feeds, found), found


def feeds_for(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random inputs, and labels of class 0."""
    random = np.random.default_rng(1)
    return {
        name: np.zeros(shape, np.float32) if name == "label" else random.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The same float32 outputs, but for 1e-5 of a value or of the largest."""
    assert one.keys() == other.keys() and one
    for name, expected in one.items():
        found = other[name]
        assert found.shape == expected.shape and found.dtype == np.float32, name
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale, err_msg=name)
