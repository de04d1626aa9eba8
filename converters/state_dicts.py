"""State dicts of torch modules, in the files that people have them in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch

from converters.torch_file import read_torch_file
from prototxt.errors import CaffeError, FormatError, MissingFileError


def read_state_dict(path: str | os.PathLike[str], expected: str) -> dict[str, torch.Tensor]:
    """A state dict that torch.save wrote, alone or under ``state_dict`` in a checkpoint, or a .safetensors.

    Tensors of a .safetensors stay in the file until they are used; it must not be overwritten meanwhile.

    Args:
        path: the file.
        expected: what it should be, for messages.

    Raises:
        MissingFileError: it is not there. FormatError: it is something else, or damaged, or needs code to be run.
        CaffeError: safetensors is not installed.
    """
    if str(path).endswith(".safetensors"):
        return _read_safetensors(path, expected)
    content = read_torch_file(path, expected)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(map(_is_entry, content.items())):
        raise FormatError(f"{path}: no state dict; expected {expected}")
    return dict(content)


def _is_entry(entry: tuple[object, object]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], torch.Tensor)


def _read_safetensors(path: str | os.PathLike[str], expected: str) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: there is no such file; expected {expected}")
    module = safetensors_torch(path, "reading", "take a .pth")
    try:
        return module.load_file(path)
    except Exception as error:  # safetensors has an error of its own, torch others
        raise FormatError(f"{path}: safetensors cannot read it ({error}); expected {expected}") from error


def safetensors_torch(path: str | os.PathLike[str], doing: str, otherwise: str) -> ModuleType:
    """The module ``safetensors.torch``. Raises CaffeError, saying how to install it, where it is not there."""
    try:
        import safetensors.torch
    except ImportError:
        raise CaffeError(
            f"{path}: {doing} it takes the package safetensors, which is not installed. Install it with `pip install "
            f'"caffe-segnet[safetensors]"` (or `pip install safetensors`), or {otherwise}'
        ) from None
    return safetensors.torch
