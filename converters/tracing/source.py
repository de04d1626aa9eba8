"""The module that a command names: imported, made, and given its weights."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

from torch import nn

from converters.state_dicts import read_state_dict
from prototxt.errors import CaffeError, nearest


def is_module_name(text: str) -> bool:
    """Whether a text is ``package.module:Name`` and no file."""
    package, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in package.split("."))


def keyword(text: str) -> tuple[str, object]:
    """``NAME=VALUE`` as a name and a Python value; what is no Python literal is a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=VALUE, e.g. classes=19")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def shape(text: str) -> tuple[int, ...]:
    """``N,C,H,W`` as numbers."""
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected sizes with commas between, e.g. 1,3,360,480")
    return sizes


def build(name: str, arguments: dict[str, object]) -> nn.Module:
    """Import ``package.module:Name``, also from the current folder, and make the module.

    Raises:
        CaffeError: it cannot be imported or made, or is no module.
    """
    package, _, attribute = name.rpartition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(package)
    except Exception as error:  # whatever the user's own code raises
        raise CaffeError(f"{name}: {package} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(found, attribute):
        hint = nearest(attribute, vars(found))
        raise CaffeError(
            f"{name}: {package} has no {attribute!r}; {hint or 'expected a class, a function or a module'}"
        )
    made = getattr(found, attribute)
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise CaffeError(f"{name}: a {type(made).__name__}; expected a class, a function or a module")
        try:
            made = made(**arguments)
        except Exception as error:
            told = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no --args"
            raise CaffeError(f"{name}: cannot be made with {told}: {type(error).__name__}: {error}") from error
    elif arguments:
        raise CaffeError(f"{name}: a module that is made already; expected no --args")
    if not isinstance(made, nn.Module):
        raise CaffeError(f"{name}: gives a {type(made).__name__}; expected a torch.nn.Module")
    return made


def load_state(module: nn.Module, path: str) -> None:
    """Load a state dict; one that a checkpoint holds under ``state_dict`` too. No code of the file is run.

    Raises:
        MissingFileError: it is not there; CaffeError: it is no state dict, or that of another module.
    """
    state = read_state_dict(path, "what torch.save(module.state_dict(), …) writes, or a .safetensors")
    own = module.state_dict()
    problems = [f"{path}: lacks {key!r}" for key in own if key not in state]
    problems += [f"{path}: {key!r} is not in {type(module).__name__}" for key in state if key not in own]
    problems += [
        f"{path}: {key!r} is {tuple(state[key].shape)}; expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        raise CaffeError(problems, "expected the state dict of this module, made with the same --args")
    module.load_state_dict(state)
