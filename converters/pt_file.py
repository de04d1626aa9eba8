"""The ``.pt`` file of a converted network: weights, and everything needed to build the net without its prototxt."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch

from caffe_compat import TEST, TRAIN, Net
from converters.torch_file import read_torch_file
from prototxt import text
from prototxt.errors import FormatError, MissingFileError
from prototxt.files import replacing
from prototxt.net_file import parse_net

_FORMAT = "caffe-segnet"
_VERSION = 1
_PHASES = {"TRAIN": TRAIN, "TEST": TEST}
_EXPECTED = "a .pt file made by converters.caffe2torch"
_KINDS = {
    "prototxt": str,
    "dialect": str,
    "phase": str,
    "level": int,
    "stages": list,
    "input_shapes": dict,
    "state_dict": dict,
}


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
    content = read_torch_file(path, _EXPECTED)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FormatError(f"{path}: not made by converters.caffe2torch; expected {_EXPECTED}")
    if content.get("version") != _VERSION:
        raise FormatError(
            f"{path}: version {content.get('version')!r} of the format; expected {_VERSION}: update this package"
        )
    wrong = [name for name, kind in _KINDS.items() if not isinstance(content.get(name), kind)]
    if wrong or content["phase"] not in _PHASES:
        raise FormatError(f"{path}: damaged: {', '.join(wrong) or 'phase'} is wrong or missing; convert the net again")
    return content


def load_pt(path: str | PathLike[str]) -> Net:
    """The net of a ``.pt`` file, with its weights. Raises FormatError, MissingFileError."""
    content = read_pt(path)
    try:
        net = net_described(content, str(path))
        net.load_state_dict(content["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        if isinstance(error, MissingFileError):
            raise
        raise FormatError(f"{path}: its weights are not those of its net ({error}); convert the net again") from error
    return net


def net_described(content: Mapping[str, Any], name: str) -> Net:
    """The net that ``describe_net`` described, its parameters not yet filled; ``name`` stands for it in messages."""
    return Net(
        parse_net(content["prototxt"], name, content["dialect"]),
        _PHASES[content["phase"]],
        level=content["level"],
        stages=content["stages"],
        dialect=content["dialect"],
        input_shapes=content["input_shapes"],
        fill=False,
    )
