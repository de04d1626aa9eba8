"""What the nodes of an exported graph stand for while they become layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from converters.tracing.errors import CannotSay
from prototxt.net_spec import Top

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Blob:
    """A blob of the net: its name, its shape, and what makes it."""

    name: str
    shape: Shape
    top: Top


@dataclass(frozen=True)
class Padded:
    """A blob with zeros around its plane that no layer has put there yet: (above, below, left, right)."""

    blob: Blob
    pads: tuple[int, int, int, int]

    @property
    def shape(self) -> Shape:
        """With the zeros."""
        *lead, height, width = self.blob.shape
        above, below, left, right = self.pads
        return (*lead, height + above + below, width + left + right)


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the inputs; ``key`` is its name in the state dict, where it is as it stands."""

    tensor: torch.Tensor
    key: str | None = None


class Weight(NamedTuple):
    """A parameter blob of a layer; ``key`` as for Constant, so that a parameter used twice is shared."""

    values: np.ndarray
    key: str | None = None


def as_held(constant: Constant, shape: Shape | None = None) -> Weight:
    """A parameter as the module holds it, bit for bit, if need be in another shape. Raises CannotSay."""
    tensor = constant.tensor.detach().cpu()
    if tensor.dtype != torch.float32:
        raise CannotSay(
            f"{constant.key or 'a constant'} is {tensor.dtype}; expected torch.float32: call module.float()"
        )
    same = shape is None or tuple(tensor.shape) == tuple(shape)
    values = tensor.contiguous().numpy()
    return Weight(values if same else values.reshape(shape), constant.key if same else None)


def derived(tensor: torch.Tensor, shape: Shape | None = None) -> Weight:
    """Values that were computed from parameters."""
    values = tensor.detach().cpu().to(torch.float32).contiguous().numpy()
    return Weight(values if shape is None else values.reshape(shape))


def as_number(value: object) -> float | None:
    """A number, or a constant with one value, as a float; None for anything else."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, Constant) and value.tensor.numel() == 1 and not value.tensor.is_complex():
        return float(value.tensor)
    return None
