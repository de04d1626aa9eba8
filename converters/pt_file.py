"""The ``.pt`` file of a converted network: weights, and everything needed to build the net without its prototxt."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from caffe_compat import TEST, TRAIN, Net
from prototxt import text
from prototxt.errors import FormatError, MissingFileError
from prototxt.files import replacing
from prototxt.net_file import parse_net

_FORMAT = "caffe-segnet"
_VERSION = 1
_PHASES = {"TRAIN": TRAIN, "TEST": TEST}


def save_pt(net: Net, path: str | PathLike[str], *, trained: bool, source: str = "") -> None:
    """Write a net. The file appears whole or not at all.

    It holds only numbers, texts and tensors, so that ``torch.load(path, weights_only=True)`` reads it; its
    ``state_dict`` is that of the net.

    Args:
        net: the net.
        path: where to; an existing file is replaced.
        trained: whether the weights come from a file, or from the fillers.
        source: where the weights come from, for people.
    """
    content = {**describe_net(net, trained, source), "state_dict": net.state_dict()}
    with replacing(path) as draft:
        torch.save(content, draft)


def describe_net(net: Net, trained: bool, source: str) -> dict[str, Any]:
    """All that it takes to build a net again, but the weights; the arguments are those of ``save_pt``."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "prototxt": text.format(net.graph.source),
        "dialect": net.dialect,
        "phase": "TRAIN" if net.graph.context.phase == TRAIN else "TEST",
        "level": net.graph.level,
        "stages": list(net.graph.stages),
        "input_shapes": {name: list(net.blobs[name].shape) for name in net.graph.feeds},
        "trained": trained,
        "source": source,
    }


def read_pt(path: str | PathLike[str]) -> dict[str, Any]:
    """The content of a ``.pt`` file. Raises MissingFileError, or FormatError for another kind of file."""
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: there is no such file; expected a .pt file made by converters.caffe2torch")
    expected = "expected a file that converters.caffe2torch wrote"
    if not zipfile.is_zipfile(path):
        raise FormatError(f"{path}: no torch archive; {expected}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise FormatError(f"{path}: torch cannot read it ({error}); {expected}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FormatError(f"{path}: not made by converters.caffe2torch; {expected}")
    if content["version"] > _VERSION:
        raise FormatError(f"{path}: version {content['version']}; expected at most {_VERSION}: update this package")
    return content


def load_pt(path: str | PathLike[str]) -> Net:
    """The net of a ``.pt`` file, with its weights. Raises FormatError, MissingFileError."""
    content = read_pt(path)
    net = net_described(content, str(path))
    net.load_state_dict(content["state_dict"])
    return net


def net_described(content: Mapping[str, Any], name: str) -> Net:
    """The net that ``describe_net`` described, with its fillers' values; ``name`` stands for it in messages."""
    return Net(
        parse_net(content["prototxt"], name, content["dialect"]),
        _PHASES[content["phase"]],
        level=content["level"],
        stages=content["stages"],
        dialect=content["dialect"],
        input_shapes=content["input_shapes"],
    )
