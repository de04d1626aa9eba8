"""VGG16's weights, made up, as its authors and as torchvision publish them; and nets that begin with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from converters.vgg16.layout import NAMES, SHAPES, STAGES
from prototxt.caffe_pb2 import NetParameter
from prototxt.caffemodel import new_caffemodel

#: Where torchvision's models have their convolutions.
VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
VGG19 = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


def features(batch_norm: bool, count: int = len(NAMES), first_pad: int = 1, seed: int = 0) -> nn.Sequential:
    """torchvision's ``features`` in eval mode, up to so many convolutions, with values that let images through."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in STAGES:
        for outputs in stage:
            if len([one for one in layers if isinstance(one, nn.Conv2d)]) < count:
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1 if layers else first_pad))
                layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
                layers.append(nn.ReLU())
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    found = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in found:
            if isinstance(one, nn.Conv2d):
                one.weight.normal_(0, (2 / (9 * one.in_channels)) ** 0.5, generator=generator)
                one.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(one, nn.BatchNorm2d):
                one.weight.uniform_(0.5, 1.5, generator=generator)
                one.bias.normal_(0, 0.3, generator=generator)
                one.running_mean.normal_(0, 0.3, generator=generator)
                one.running_var.uniform_(0.3, 2, generator=generator)
    return found


def state_of(model: nn.Sequential) -> dict[str, torch.Tensor]:
    """Its state dict as torchvision's, the classifier with one number each."""
    state = {f"features.{key}": value for key, value in model.state_dict().items()}
    return state | {f"classifier.{i}.{word}": torch.ones(1) for i in (0, 3, 6) for word in ("weight", "bias")}


def thin_state(batch_norm: bool = False) -> dict[str, torch.Tensor]:
    """A state dict of torchvision's shapes, each tensor one number over and over, so that its file is small."""
    shapes = {}
    for index, shape in zip(VGG16_BN if batch_norm else VGG16, SHAPES, strict=True):
        shapes |= {f"features.{index}.weight": shape, f"features.{index}.bias": shape[:1]}
        if batch_norm:
            words = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"features.{index + 1}.{word}": shape[:1] for word in words}
    shapes |= {f"classifier.{i}.{word}": (1,) for i in (0, 3, 6) for word in ("weight", "bias")}
    return {key: torch.full((1,), float(i)).expand(shape) for i, (key, shape) in enumerate(shapes.items(), 1)}


def caffe_blobs(seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Weight and bias of each convolution."""
    random = np.random.default_rng(seed)
    return {
        name: [
            random.standard_normal(shape, np.float32) * np.float32((2 / (9 * shape[1])) ** 0.5),
            random.standard_normal(shape[0], np.float32),
        ]
        for name, shape in zip(NAMES, SHAPES, strict=True)
    }


def write_caffe(path: Path, blobs: dict[str, list[np.ndarray]], types: dict[str, str] | None = None) -> None:
    """As the authors' file: V1, shapes in four axes, with the layers after the convolutions, made small."""
    blobs = blobs | {name: [np.ones((2, 2), np.float32), np.ones(2, np.float32)] for name in ("fc6", "fc7", "fc8")}
    net = NetParameter(name="VGG_ILSVRC_16_layers")
    for name in blobs:
        kind = "InnerProduct" if name.startswith("fc") else "Convolution"
        net.layer.add(name=name, type=(types or {}).get(name, kind))
    new_caffemodel(net, dict(enumerate(blobs.values())), "deconvnet").write(path)


def layer(name: str, kind: str, bottom: str, top: str, param: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {param} }}\n'


def encoder(
    count: int = len(NAMES),
    norms: Sequence[tuple[str, str, str]] = (),
    bias: bool = True,
    first_pad: int = 1,
    names: Sequence[str] = NAMES,
) -> str:
    """The text of an encoder that reads ``data``.

    ``count`` convolutions, each with ``norms`` behind: the end of the name, the type and the parameters.
    """
    text, blob, at = "", "data", 0
    for stage, outputs in enumerate(STAGES, 1):
        for channels in outputs:
            if at == count:
                return text
            name = names[at]
            pad = 1 if at else first_pad
            param = f"num_output: {channels} kernel_size: 3 pad: {pad} bias_term: {str(bias).lower()}"
            text += layer(name, "Convolution", blob, name, f"convolution_param {{ {param} }}")
            text += "".join(layer(name + ending, kind, name, name, param) for ending, kind, param in norms)
            text += layer(f"{name}_relu", "ReLU", name, name)
            blob, at = name, at + 1
        if at < count:
            text += layer(f"pool{stage}", "Pooling", blob, f"pool{stage}", "pooling_param { kernel_size: 2 stride: 2 }")
            blob = f"pool{stage}"
    return text
