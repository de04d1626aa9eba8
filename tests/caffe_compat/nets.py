"""Small nets for tests, written as text."""

from __future__ import annotations

import caffe_compat as caffe
from prototxt.net_file import parse_net


def net(text: str, phase: int = caffe.TEST, **options: object) -> caffe.Net:
    """A net from text; messages call the file ``net.prototxt``."""
    return caffe.Net(parse_net(text, "net.prototxt", options.get("dialect")), phase, **options)


def inputs(**shapes: tuple[int, ...]) -> str:
    """The lines for the inputs of a net."""
    return "\n".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }}' for name, shape in shapes.items()
    )


#: Two stages down and up again, as SegNet is built.
AUTOENCODER = (
    inputs(data=(1, 3, 10, 14))
    + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BN" bottom: "conv1" top: "conv1" bn_param { scale_filler { value: 1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" top: "mask1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up1" type: "Upsample" bottom: "pool1" bottom: "mask1" top: "up1" upsample_param { scale: 2 } }
layer { name: "score" type: "Convolution" bottom: "up1" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
"""
)
