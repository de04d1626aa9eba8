"""Emitted sources in tests: written, imported, and held against the net they come from."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch

import caffe_compat as caffe
from converters.emitting import emit
from converters.emitting.plan import plan
from converters.pt_file import save_pt
from tests.recorded import recipe

#: SegNet's stages with few channels, for tests that are to be quick.
NARROW = ((6, 6), (8, 8), (10, 10, 10), (12, 12, 12), (12, 12, 12))


def fill(net: caffe.Net) -> caffe.Net:
    """Parameters of a size that lets values through, the same in every run."""
    for node in net.graph.nodes:
        for i, blob in enumerate(node.layer.param_blobs):
            blob.data[...] = recipe.param(node.layer.name, i, blob.shape, node.layer.type)
    return net


def write(net: caffe.Net, folder: Path, name: str = "emitted") -> tuple[Path, Path]:
    """The net's source and weights as files."""
    source, weights = folder / f"{name}.py", folder / f"{name}.pt"
    source.write_text(emit(net, weights.name, name), "utf-8")
    save_pt(net, weights, trained=True)
    return source, weights


def module_of(source: Path) -> ModuleType:
    """The source, imported."""
    spec = importlib.util.spec_from_file_location(source.stem, source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def differences(net: caffe.Net, folder: Path, inputs: Mapping[str, torch.Tensor] | None = None) -> list[str]:
    """Outputs of the emitted module that are not the net's, bit by bit; NaN equals NaN.

    ``inputs``: by default random ones of the net's own shapes.
    """
    source, weights = write(net, folder)
    model = module_of(source).load(str(weights))
    found = plan(net)
    wanted = [value.blob for value in found.inputs]
    torch.manual_seed(0)
    inputs = inputs or {name: torch.randn(tuple(net.blobs[name].shape)) for name in net.graph.feeds}
    kept = {name: value.clone() for name, value in inputs.items()}
    with torch.no_grad():
        torch.manual_seed(1)
        want = net(**inputs)
        torch.manual_seed(1)
        got = model(*(inputs[name] for name in wanted))
    assert all(torch.equal(inputs[name], value) for name, value in kept.items()), "an input was overwritten"
    got = got if isinstance(got, dict) else {found.outputs[0].blob: got}
    assert got
    compared = [name for name in got if name in want]
    assert compared or found.left_out
    return [name for name in compared if not _same(got[name], want[name])]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())
