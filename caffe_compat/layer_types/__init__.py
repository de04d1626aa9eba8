"""The layer types, a family a file. Importing this package registers them all."""

from caffe_compat.layer_types import (
    accuracy,
    argmax,
    bn,
    convolution,
    dense_image_data,
    lrn,
    neuron,
    pooling,
    softmax,
    structural,
    upsample,
)

__all__ = [
    "accuracy",
    "argmax",
    "bn",
    "convolution",
    "dense_image_data",
    "lrn",
    "neuron",
    "pooling",
    "softmax",
    "structural",
    "upsample",
]
