"""How images come to a first convolution, and its weights for images that come otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from caffe_compat.data.transform import open_transform
from caffe_compat.data_layer import DataLayer, ListDataLayer
from caffe_compat.errors import NetError
from caffe_compat.graph import Graph, Node

#: Layers that hand on images as they are, or a part of each.
_HAND_ON = ("Crop", "Split")


@dataclass(frozen=True)
class Images:
    """Images that come as (x - mean) / deviation, x being 0 to 255; numbers for B, G, R, whatever the order."""

    told: str
    mean: np.ndarray = field(default_factory=lambda: np.zeros(3))
    deviation: np.ndarray = field(default_factory=lambda: np.ones(3))
    is_rgb: bool = False


def _torchvision(mean: tuple[float, ...], deviation: tuple[float, ...]) -> Images:
    """Of torchvision's numbers, which are R, G, B, for images from 0 to 1."""
    numbers = [", ".join(f"{value:.5g}" for value in values) for values in (mean, deviation)]
    told = f"RGB, 0 to 1, less {numbers[0]}, over {numbers[1]}"
    return Images(told, 255 * np.array(mean)[::-1], 255 * np.array(deviation)[::-1], True)


#: Of VGG_ILSVRC_16_layers.caffemodel (its authors' VGG_mean); in float32, so that the same mean_value leaves no rest.
CAFFE = Images("BGR, 0 to 255, less 103.939, 116.779, 123.68", np.float64(np.float32([103.939, 116.779, 123.68])))
#: torchvision's names for its weights of VGG16 → the images that they take (VGG16_Weights, VGG16_BN_Weights).
TORCHVISION = {
    "IMAGENET1K_V1": _torchvision((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "IMAGENET1K_FEATURES": _torchvision((0.48235, 0.45882, 0.40784), (1 / 255,) * 3),
}


def images_of(graph: Graph, node: Node) -> Images:
    """What a layer is fed with: followed back to the data, and through what the data layer does to it.

    What comes from elsewhere than Caffe's data layers is taken to be BGR, 0 to 255. Of a mean image the mean of each
    channel counts.

    Raises:
        NetError: another layer changes the images on their way.
        CaffeError: of the mean file.
    """
    blob = node.bottoms[0]
    for other in reversed(graph.nodes[: graph.nodes.index(node)]):
        if blob not in other.tops:
            continue
        if not other.bottoms:
            return _of_source(other, graph)
        if other.layer.type not in _HAND_ON:
            raise NetError(
                f"{node.where}: {other.where} changes the images first; expected them straight from the data, so that "
                "what VGG16 subtracts can go into the weights"
            )
        blob = other.bottoms[0]
    return Images(f"{blob}: BGR, 0 to 255 (assumed)")


def _of_source(node: Node, graph: Graph) -> Images:
    told = f"{node.layer.name} ({node.layer.type}): BGR, 0 to 255"
    if not isinstance(node.layer, ListDataLayer):  # which reads pictures itself
        told += " (assumed)"
    if not isinstance(node.layer, DataLayer):
        return Images(told)
    transform = open_transform(node.message.transform_param, graph.context.phase, graph.context.paths)
    scale = float(transform.scale)
    if node.layer.type == "WindowData":
        scale *= node.layer.param.scale
    mean = np.zeros(3)
    if transform.mean is not None:
        mean += transform.mean.mean(axis=(1, 2), dtype=np.float64)
        told += ", less the mean image (of which the mean of each channel counts here)"
    elif transform.mean_values.size:
        mean += transform.mean_values.ravel()
    if transform.mean is None and mean.any():
        told += f", less {', '.join(f'{value:g}' for value in mean)}"
    return Images(told + (f", times {scale:g}" if scale != 1 else ""), mean, np.full(3, 1 / scale))


def fold(
    weight: np.ndarray, bias: np.ndarray, wanted: Images, fed: Images
) -> tuple[np.ndarray, np.ndarray, list[str], bool]:
    """A first convolution's weights (O, 3, H, W) and bias (O,) for images that come otherwise than it wants them.

    Wanted is (x - m) / d, fed is y = (x - n) / e; so (x - m) / d = (e / d) y + (n - m) / d, which is linear in y.

    Returns:
        Weights for BGR and bias, what was done, and whether the zeros of padding now stand for another colour.
    """
    factor, offset = fed.deviation / wanted.deviation, (fed.mean - wanted.mean) / wanted.deviation
    done = []
    if wanted.is_rgb:
        weight = weight[:, ::-1]
        done.append("RGB to BGR")
    if offset.any():
        bias = bias + np.einsum("ochw,c->o", weight, offset, dtype=np.float64)
        done.append("mean put into the bias")
    if (factor != 1).any():
        weight = weight * factor.reshape(1, 3, 1, 1)
        done.append("scale put into the weights")
    return weight, bias, done, bool(offset.any())
