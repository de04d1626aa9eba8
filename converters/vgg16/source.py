"""VGG16 as it is published: its authors' caffemodel, and torchvision's state dicts without and with normalisation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from converters.state_dicts import read_state_dict
from converters.torch_file import is_torch_file
from converters.vgg16.images import CAFFE, TORCHVISION, Images
from converters.vgg16.layout import NAMES, SHAPES, torchvision_indices
from prototxt.errors import CaffeError, FormatError
from prototxt.weights_h5 import read_weights

_EXPECTED = "VGG_ILSVRC_16_layers.caffemodel, or the state dict of torchvision's vgg16 or vgg16_bn"
_EPSILON = 1e-5  # of torchvision's batch normalisation
_OF_NORM = ("weight", "bias", "running_mean", "running_var")
_SIBLINGS = {8: "VGG11", 10: "VGG13", 16: "VGG19"}
"""Convolutions → whose they are."""


@dataclass(frozen=True)
class Norm:
    """A batch normalisation that learnt: each (C,) in float64. ``variance`` has torch's 1e-5 in it."""

    name: str
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset of each channel, with the stored statistics."""
        factor = self.gamma / np.sqrt(self.variance)
        return factor, self.beta - self.mean * factor


@dataclass(frozen=True)
class Filters:
    """A convolution: weight (O, I, 3, 3), bias (O,), and the normalisation behind it, if there is one."""

    name: str
    weight: np.ndarray
    bias: np.ndarray
    norm: Norm | None = None


@dataclass(frozen=True)
class Vgg16:
    """The thirteen convolutions, the images that the first one wants, and what else the file holds."""

    filters: Sequence[Filters]
    images: Images
    is_caffe: bool
    unused: Sequence[str]


def read_vgg16(path: str | os.PathLike[str], trained_as: str | None = None) -> Vgg16:
    """Read a caffemodel (binary or HDF5), or a state dict (.pt, .pth, .safetensors).

    Args:
        path: the file.
        trained_as: torchvision's name for its weights, one of TORCHVISION, which decides on the images. By default
            IMAGENET1K_FEATURES where the classifier holds NaN, as it does there, else IMAGENET1K_V1.

    Raises:
        MissingFileError: it is not there. FormatError: it is no VGG16, saying what it is.
        CaffeError: ``trained_as`` for a caffemodel; safetensors is not installed.
    """
    if str(path).endswith(".safetensors") or is_torch_file(path):
        return _of_torchvision(path, read_state_dict(path, _EXPECTED), trained_as)
    if trained_as:
        raise CaffeError(f"{path}: Caffe's weights; --trained-as {trained_as} is for torchvision's, leave it out")
    return _of_caffe(path)


# ---- Caffe


def _of_caffe(path: str | os.PathLike[str]) -> Vgg16:
    stored = {layer.name: layer for layer in reversed(read_weights(path).layers) if layer.blobs}
    names = list(reversed(stored))
    norms = [name for name in names if stored[name].type in ("BN", "BatchNorm")]
    strange = [name for name in names if re.fullmatch(r"conv[1-5]_\d+", name) and name not in NAMES]
    missing = [name for name in NAMES if name not in stored]
    if norms or strange or missing:
        found = (
            f"it has batch normalisation ({_some(norms)}), without which its convolutions are nothing. Weights of a "
            "net like this one are taken as they are, by name"
            if norms
            else f"it has {_some(strange)}, as VGG19 has"
            if strange
            else f"it lacks {_some(missing)}; it has {_some(names)}"
        )
        raise FormatError(f"{path}: no VGG16: {found}; expected {_EXPECTED}")
    problems = []
    for name, shape in zip(NAMES, SHAPES, strict=True):
        shapes = [None if blob is None else blob.shape for blob in stored[name].blobs]
        if len(shapes) != 2 or shapes[0] != shape or not stored[name].blobs[1].shape_matches(shape[:1]):
            problems.append(
                f"{path}: layer {name!r} has blobs of the shapes {shapes}; expected {shape} and {shape[:1]}"
            )
    if problems:
        raise FormatError(problems, f"expected {_EXPECTED}")
    pairs = ([blob.data for blob in stored[name].blobs] for name in NAMES)
    filters = [Filters(name, weight, bias.ravel()) for name, (weight, bias) in zip(NAMES, pairs, strict=True)]
    return Vgg16(filters, CAFFE, True, [name for name in names if name not in NAMES])


# ---- torchvision


def _of_torchvision(path: str | os.PathLike[str], state: dict[str, torch.Tensor], trained_as: str | None) -> Vgg16:
    if all(key.startswith("module.") for key in state):  # of a DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    found = tuple(sorted(_convolutions(state)))
    with_norm = found == torchvision_indices(True)
    if not with_norm and found != torchvision_indices(False):
        raise FormatError(f"{path}: no VGG16: {_what(found, state)}; expected {_EXPECTED}")
    shapes = _shapes(found, with_norm)
    problems = [
        f"{path}: {key!r} is {tuple(state[key].shape) if key in state else 'not there'}; expected {shape}"
        for key, shape in shapes.items()
        if key not in state or tuple(state[key].shape) != shape
    ]
    if problems:
        raise FormatError(problems, f"expected {_EXPECTED}")
    filters = [_filters(state, index, with_norm) for index in found]
    used = {key.rpartition(".")[0] for key in shapes}
    unused = dict.fromkeys(module for key in state if (module := key.rpartition(".")[0]) not in used)
    images = TORCHVISION[trained_as or ("IMAGENET1K_FEATURES" if _lacks_classifier(state) else "IMAGENET1K_V1")]
    return Vgg16(filters, images, False, list(unused))


def _convolutions(state: Mapping[str, torch.Tensor]) -> Iterator[int]:
    for key, value in state.items():
        match = re.fullmatch(r"features\.(\d{1,3})\.weight", key)
        if match and value.dim() == 4:
            yield int(match[1])


def _shapes(indices: Sequence[int], with_norm: bool) -> dict[str, tuple[int, ...]]:
    """The keys that are used, and the shape of each."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, shape in zip(indices, SHAPES, strict=True):
        shapes |= {f"features.{index}.weight": shape, f"features.{index}.bias": shape[:1]}
        if with_norm:
            shapes |= {f"features.{index + 1}.{word}": shape[:1] for word in _OF_NORM}
    return shapes


def _filters(state: Mapping[str, torch.Tensor], index: int, with_norm: bool) -> Filters:
    name, behind = f"features.{index}", f"features.{index + 1}"
    norm = None
    if with_norm:
        gamma, beta, mean, variance = (state[f"{behind}.{word}"].detach().double().numpy() for word in _OF_NORM)
        norm = Norm(behind, gamma, beta, mean, variance + _EPSILON)
    weight, bias = (state[f"{name}.{word}"].detach().float().numpy() for word in ("weight", "bias"))
    return Filters(name, weight, bias, norm)


def _lacks_classifier(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the classifier holds NaN; the first values of each tensor tell, the rest need not be read."""
    classifier = (value for key, value in state.items() if key.startswith("classifier."))
    return any(bool(value.reshape(-1)[:1000].isnan().any()) for value in classifier)


# ---- what else a file is


def _what(found: Sequence[int], state: Mapping[str, torch.Tensor]) -> str:
    if not found:
        return f"it has {_some(list(state))}"
    sibling = f", as many as {_SIBLINGS[len(found)]}" if len(found) in _SIBLINGS else ""
    return f"it has {len(found)} convolutions{sibling}: {_some([f'features.{index}' for index in found])}"


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], "…"] if len(names) > 5 else names)
