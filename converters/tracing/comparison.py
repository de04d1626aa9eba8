"""A module beside the net of the files that it became."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from caffe_compat import TEST, Net
from converters.tracing.program import evaluating


def largest_difference(
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    files: Sequence[Path],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dialect: str,
) -> str:
    """The largest difference of any output, and the largest value there, as a text: ``2.4e-07 (of 0.99)``.

    ``files`` begin with the prototxt and the caffemodel; the Python layers among them lie beside.
    """
    net = Net(files[0], files[1], TEST, dialect=dialect)
    with torch.no_grad(), evaluating(module):
        expected = pytree.tree_leaves(module(*(one.clone() for one in inputs)))
        found = net(**dict(zip(input_names, inputs, strict=True)))
    pairs = [(one.float(), found[name]) for one, name in zip(expected, output_names, strict=True)]
    worst, size = max(((one - other).abs().max().item(), one.abs().max().item()) for one, other in pairs)
    return f"{worst:.2g} (of {size:.3g})"
