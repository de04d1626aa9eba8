"""A net for images with another number of channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from caffe_compat.errors import NetError
from caffe_compat.layer_kinds import KEEP_CHANNELS, LINEAR
from prototxt.caffe_pb2 import LayerParameter, NetParameter
from prototxt.net_file import NetFile

#: Data layers that decode pictures: colour or grey, nothing else.
_PICTURES = {"DenseImageData": "dense_image_data_param", "ImageData": "image_data_param"}


def set_channels(file: NetFile, channels: int) -> tuple[NetParameter, set[str], list[str]]:
    """Give the image inputs another number of channels.

    Images are the inputs with four axes, and the first tops of data layers, that a convolution or an inner product
    reads, be it after layers that keep channels. Other inputs (labels) stay.

    Args:
        file: the net; layers of all phases are followed.
        channels: the new number, at least 1.

    Returns:
        The new net, the names of the layers that read the images' channels, and what was changed, for people.

    Raises:
        NetError: with every layer on the way that treats channels apart; groups that do not divide the channels; a net
            in which nothing reads images.
    """
    changed = NetParameter()
    changed.CopyFrom(file.message)
    readers: set[str] = set()
    told: list[str] = []
    problems: list[str] = []
    for blob, source in _sources(changed):
        found = set(_readers(changed.layer, blob, source, channels, problems))
        if found:
            readers |= found
            told += _set_source(changed, blob, source, channels)
    if not readers and not problems:
        problems.append("no convolution or inner product reads an input; expected one that reads the images")
    if problems:
        raise NetError([f"{file.path}: {problem}" for problem in dict.fromkeys(problems)])
    return changed, readers, list(dict.fromkeys(told))


def fit_weights(weight: np.ndarray, channels: int) -> np.ndarray:
    """Weights (O, C, ...) for another number of channels.

    Added channels weigh nothing at first. Of several channels that become one, the sum is taken: a grey image gives
    what it gave as three equal colours. Otherwise the first channels are kept.
    """
    if channels == 1:
        return weight.sum(axis=1, keepdims=True, dtype=np.float64).astype(weight.dtype)
    kept = weight[:, :channels]
    added = np.zeros((weight.shape[0], channels - kept.shape[1], *weight.shape[2:]), weight.dtype)
    return np.concatenate([kept, added], axis=1)


def _sources(net: NetParameter) -> Iterator[tuple[str, int]]:
    """Blobs that come from outside, each with the index of its layer (-1: the net's own input)."""
    yield from ((name, -1) for name in net.input)
    for index, layer in enumerate(net.layer):
        if layer.top and not layer.bottom:
            yield from ((top, index) for top in (layer.top if layer.type == "Input" else layer.top[:1]))


def _readers(
    layers: Sequence[LayerParameter], blob: str, source: int, channels: int, problems: list[str]
) -> Iterator[str]:
    """The linear layers that read an image, wherever layers that keep channels carry it."""
    images = {blob}
    unfit = []
    found = False
    for layer in layers[source + 1 :]:
        if not images & set(layer.bottom[:1] if layer.type == "Crop" else layer.bottom):
            if not layer.include and not layer.exclude:
                images -= set(layer.top)  # written over
        elif layer.type in LINEAR:
            found = True
            if channels % layer.convolution_param.group:
                unfit.append(f"{layer.name!r} ({layer.type}) has {layer.convolution_param.group} groups")
            yield layer.name
            images -= set(layer.top)
        elif layer.type in KEEP_CHANNELS:
            images |= set(layer.top)
        else:
            unfit.append(f"{layer.name!r} ({layer.type}) does something of its own with each channel")
            images |= set(layer.top)
    if found:
        problems += [f"layer {text}; it cannot be given {channels} channels" for text in unfit]


def _set_source(net: NetParameter, blob: str, source: int, channels: int) -> list[str]:
    """Write the number where the image comes from. Returns what was done, and what is left to people."""
    if source < 0:
        at = list(net.input).index(blob)
        if net.input_shape:
            net.input_shape[at].dim[1] = channels
        else:
            net.input_dim[4 * at + 1] = channels
        return [f"input {blob}: {channels} channels"]
    layer = net.layer[source]
    told = []
    if layer.type == "Input":
        shapes = layer.input_param.shape
        shapes[list(layer.top).index(blob) if len(shapes) > 1 else 0].dim[1] = channels
        return [f"{layer.name}: {channels} channels"]
    if layer.type == "MemoryData":
        layer.memory_data_param.channels = channels
        told.append(f"{layer.name}: channels {channels}")
    elif layer.type in _PICTURES and channels in (1, 3):
        getattr(layer, _PICTURES[layer.type]).is_color = channels == 3
        told.append(f"{layer.name}: is_color {'true' if channels == 3 else 'false'}")
    elif layer.type in _PICTURES:
        told.append(f"{layer.name} ({layer.type}) reads colour or grey pictures; take HDF5Data for {channels} channels")
    else:
        told.append(f"{layer.name} ({layer.type}): left as it is; its images must have {channels} channels")
    transform = layer.transform_param
    if transform.mean_file or len(transform.mean_value) not in (0, 1, channels):
        told.append(f"{layer.name}: its mean is of other images; expected {channels} channels of mean")
    return told
