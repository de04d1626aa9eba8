"""Nets beside their ONNX models in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

import caffe_compat as caffe
from converters.onnx_graph.model import to_onnx


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


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


def outputs(net: caffe.Net, feeds: dict[str, np.ndarray], names) -> dict[str, np.ndarray]:
    """What the net computes in the blobs of these names."""
    for name, values in feeds.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.reshape()
    with torch.no_grad():
        net.forward()
    return {name: net.blobs[name].data.copy() for name in names}


def both(net: caffe.Net, feeds: dict[str, np.ndarray], **options) -> tuple[dict, dict]:
    """The outputs of the net, and those of its model."""
    run = session(to_onnx(net, **options).model)
    names = [output.name for output in run.get_outputs()]
    wanted = {value.name for value in run.get_inputs()}
    found = run.run(None, {name: values for name, values in feeds.items() if name in wanted})
    return outputs(net, feeds, names), dict(zip(names, found, strict=True))
