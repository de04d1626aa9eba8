"""The model whose parameter names are wanted: its state dict, from a file or from its class."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from converters.state_dicts import read_state_dict
from prototxt.errors import CaffeError

#: torch's default, for a reference that is a file: it does not say its own.
_EPSILON = 1e-5
_EXPECTED = "what torch.save(model.state_dict(), …) writes, a .safetensors, or package.module:Class"


@dataclass
class Reference:
    """A state dict, and what it does not say by itself."""

    name: str
    """For messages."""
    state: Mapping[str, torch.Tensor]
    epsilons: Mapping[str, float] = field(default_factory=dict)
    """Module → its ``eps``, where it is known."""

    def epsilon(self, module: str) -> float:
        """The eps of a batch normalisation."""
        return self.epsilons.get(module, _EPSILON)


def read_reference(reference: str) -> Reference:
    """Take the state dict of ``model.pth`` or ``model.safetensors``, or of ``package.module:Class``.

    The class is made without arguments.

    Raises:
        MissingFileError: no such file; FormatError: it holds no state dict.
        CaffeError: the class cannot be imported or made.
    """
    if ":" in reference and not Path(reference).exists():
        return _of_class(reference)
    return Reference(reference, read_state_dict(reference, _EXPECTED))


def _of_class(reference: str) -> Reference:
    module, _, name = reference.rpartition(":")
    try:
        model = getattr(importlib.import_module(module), name)()
    except Exception as error:  # whatever the user's code raises
        raise CaffeError(
            f"{reference}: {type(error).__name__}: {error}; expected package.module:Class of a torch module that is "
            "made without arguments"
        ) from error
    if not isinstance(model, nn.Module):
        raise CaffeError(f"{reference}: is a {type(model).__name__}; expected a torch.nn.Module")
    epsilons = {name: part.eps for name, part in model.named_modules() if isinstance(getattr(part, "eps", None), float)}
    return Reference(reference, model.state_dict(), epsilons)
