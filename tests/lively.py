"""Networks with random weights whose labels mean something, and images for them."""

from __future__ import annotations

import numpy as np
import torch

import caffe_compat as caffe
from caffe_compat.graph import Node
from converters.onnx_graph.registry import is_left_out


def images(items: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Pictures of soft patches with noise, (N, 3, H, W), within 0 to 255 without touching either."""
    random = np.random.default_rng(seed)
    patches = torch.from_numpy(random.uniform(60, 195, (items, 3, 9, 12)))
    soft = torch.nn.functional.interpolate(patches, (height, width), mode="bilinear").numpy()
    return (soft + random.uniform(-15, 15, soft.shape)).astype(np.float32)


def lively(net: caffe.Net, feeds: dict[str, np.ndarray], seed: int = 0) -> caffe.Net:
    """Random weights under which the labels of a network for segmentation are patches that follow the colours.

    Weights are drawn as by He et al. (2015), and what a BN without statistics of its own multiplies with and adds is
    what its input's are on these images, so that all activations stay alive. The first three channels of every layer
    pass the image's blue, green and red on, with a two-hundredth of the others; the scores are the nearness to one
    colour for each class. Where the scores are random too, every pixel is about to change its class, and one near-tie
    in the last pooling changes the labels of one pixel in a hundred, in the net itself too. With this share SegNet's
    labels in float32 and float64 differ as those of a trained one do, in one to four of ten thousand; yet
    halving the weights of one channel changes one in a thousand or more.
    """
    random = np.random.default_rng(seed)
    for name, values in feeds.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.reshape()
    scores = [node for node in net.graph.nodes if node.layer.type == "Convolution"][-1:]
    has_holes = False
    with torch.no_grad():
        for i, node in enumerate(net.graph.nodes):
            for param, blob in zip(node.params, node.layer.blobs, strict=True):
                _fill(blob.data, node.layer.type, param.spec.name, random)
            if node.layer.is_source or is_left_out(node.layer):
                continue
            if _is_filter(node) and min(node.layer.weight.shape[:2]) >= 3:
                _pass_colours(node, random, has_holes or _widens(node), node in scores)
            has_holes = has_holes or node.layer.type in ("Upsample", "Unpooling")
            if node.layer.type == "BN" and node.layer.affine_only:
                _normalise(node, net.blobs[node.bottoms[0]].data)
            net._forward(i, i)
    return net


def _fill(values: np.ndarray, kind: str, name: str, random: np.random.Generator) -> None:
    if kind in ("BN", "Scale") and name == "scale":
        values[...] = random.uniform(0.5, 1.5, values.shape)
    elif kind == "BatchNorm":
        values[...] = 1 if name == "weight" else random.uniform(0.5, 1.5, values.shape)
    elif name == "weight":
        per_output = values.size / values.shape[1] / 4 if kind == "Deconvolution" else values[0].size
        values[...] = random.standard_normal(values.shape, np.float32) * np.float32((2 / per_output) ** 0.5)
    else:
        values[...] = random.standard_normal(values.shape, np.float32) * np.float32(0.1)


def _is_filter(node: Node) -> bool:
    """Whether a layer is a convolution, or a deconvolution that does not enlarge by a factor."""
    if node.layer.type == "Deconvolution":
        return set(node.layer.window.stride) == {1}
    return node.layer.type == "Convolution"


def _widens(node: Node) -> bool:
    """Whether there is more around a plane's values behind the layer, as behind DeconvNet's fc6-deconv."""
    window = node.layer.window
    return node.layer.type == "Deconvolution" and any(
        k > 2 * p + 1 for k, p in zip(window.kernel, window.pad, strict=True)
    )


#: What of the other channels is added to a colour.
_OTHERS = 0.005
#: The mean and the deviation of the three channels that are colours, behind each BN.
COLOUR = 1.0, 0.5


def _pass_colours(node: Node, random: np.random.Generator, in_window: bool, is_last: bool) -> None:
    """Let each place's blue, green and red be the first channels, or the scores their nearness.

    Behind an upsampling it is the mean of the window (``in_window``), which fills the holes.
    """
    weight, *bias = (blob.data for blob in node.layer.blobs)
    window = np.zeros(weight.shape[2:])
    window[tuple(size // 2 for size in window.shape)] = 1
    if in_window:
        window[...] = 1 / window.size
    if is_last:
        prototypes = random.normal(*COLOUR, (len(weight), 3))
        weight *= _OTHERS
        weight[:, :3] = prototypes[:, :, None, None] * window
        bias[0][...] = -np.square(prototypes).sum(1) / 2
        return
    into = weight.swapaxes(0, 1) if node.layer.type == "Deconvolution" else weight  # by output
    into[:3] *= _OTHERS
    for channel in range(3):
        weight[channel, channel] += window


def _normalise(node: Node, x: np.ndarray) -> None:
    """Let a BN give each channel a deviation and a mean; those of a colour are COLOUR's."""
    scale, shift = (blob.data.reshape(-1) for blob in node.layer.blobs)
    shift[:3], scale[:3] = COLOUR
    axes = (0, 2, 3) if x[:, 0].size > 1 else None  # a single place has no deviation; that of all channels serves
    mean, deviation = x.mean(axes), x.std(axes) + 1e-3
    scale /= deviation
    shift -= mean * scale
