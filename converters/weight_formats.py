"""A converted net's weights in the formats that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from caffe_compat import Net
from converters.pt_file import describe_net, save_pt
from converters.state_dicts import safetensors_torch
from prototxt.errors import CaffeError
from prototxt.files import replacing

Write = Callable[[Net, Path, bool, str], None]
State = Mapping[str, torch.Tensor]


def _write_pt(net: Net, path: Path, trained: bool, source: str) -> None:
    save_pt(net, path, trained=trained, source=source)


def _write_safetensors(net: Net, path: Path, trained: bool, source: str) -> None:
    """The state dict; the prototxt and the rest of what a ``.pt`` file says are the metadata, each as a text."""
    metadata = {key: str(value) for key, value in describe_net(net, trained, source).items()}
    with replacing(path) as draft:
        _save_safetensors(net.state_dict(), draft, metadata)


def _write_npz(net: Net, path: Path, trained: bool, source: str) -> None:
    """The state dict, an array for each name."""
    with replacing(path) as draft:
        _save_npz(net.state_dict(), draft)


def _write_h5(net: Net, path: Path, trained: bool, source: str) -> None:
    """Caffe's layout (Net::ToHDF5): a group for each layer, a dataset for each parameter."""
    net.save(str(path))


#: format → the ending of a file that is named after its net, and what writes it.
FORMATS: dict[str, tuple[str, Write]] = {
    "pt": (".pt", _write_pt),
    "safetensors": (".safetensors", _write_safetensors),
    "npz": (".npz", _write_npz),
    "h5": (".caffemodel.h5", _write_h5),
}


def _save_safetensors(state: State, path: Path, metadata: dict[str, str] | None = None) -> None:
    _safetensors(path)(_own_memory(state), path, metadata)


def _save_npz(state: State, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, **{name: tensor.cpu().numpy() for name, tensor in state.items()})


#: format → what saves a state dict alone.
STATE_FORMATS: dict[str, Callable[[State, Path], None]] = {
    "pt": lambda state, path: torch.save(dict(state), path),
    "safetensors": _save_safetensors,
    "npz": _save_npz,
}


def write_state(state: State, path: Path, kind: str) -> None:
    """Write a state dict by itself, without the net; ``kind`` is one of STATE_FORMATS."""
    with replacing(path) as draft:
        STATE_FORMATS[kind](state, draft)


def chosen_format(output: str | PathLike[str] | None, kind: str | None) -> str:
    """The format: ``kind`` where it is given, else what the output's ending says, else ``pt``."""
    return kind or _by_ending(output) or "pt"


def _by_ending(output: str | PathLike[str] | None) -> str | None:
    return next((one for one in FORMATS if output and Path(output).suffix == f".{one}"), None)


def target_and_writer(
    name: str, output: str | PathLike[str] | None, kind: str | None
) -> tuple[Path, Callable[[Net, bool, str], None]]:
    """Where a net's weights go, and what writes them there.

    Args:
        name: of the net.
        output: the file; by default the name with the format's ending, in the current folder.
        kind: one of FORMATS; by default what the output's ending says, or ``pt``.

    Raises:
        CaffeError: an output whose ending is that of another format; safetensors is not installed.
    """
    by_ending, kind = _by_ending(output), chosen_format(output, kind)
    ending, write = FORMATS[kind]
    target = Path(output) if output else Path(name + ending)
    if (by_ending or kind) != kind or (kind == "h5" and by_ending is None and output):
        raise CaffeError(f"{target}: to be written as {kind}; expected a name that ends in {ending}")
    if kind == "safetensors":
        _safetensors(target)  # before anything long begins
    return target, lambda net, trained, source: write(net, target, trained, source)


def _safetensors(path: Path) -> Callable[..., None]:
    return safetensors_torch(path, "writing", "take --format npz").save_file


def _own_memory(state: State) -> dict[str, torch.Tensor]:
    """The same tensors, parameters that layers share once for each: safetensors has no shared memory."""
    seen: set[int] = set()
    own = {}
    for name, tensor in state.items():
        own[name] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    return own
