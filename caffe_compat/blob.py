"""Blobs: the named arrays of a net, seen as tensors by the layers and as NumPy arrays by the user.

``blob.data`` and ``blob.diff`` are what pycaffe gives: writable views, so that ``blob.data[...] = x`` changes the
net and an array taken once shows what every later pass computes.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import ParamSpec


def _nothing() -> None:
    return None


class Half:
    """One half of a blob (data or diff): a tensor on some device and the view NumPy has of it.

    Nothing is allocated before it is asked for. Off the CPU the view is a copy on the host; as with Caffe's own
    synchronised memory, taking it means that the host's values count from then on until the device computes new ones.
    """

    def __init__(self, shape: Shape, fill: float = 0.0) -> None:
        self.shape = shape
        self.fill = fill
        self._tensor: torch.Tensor | None = None
        self._view: Callable[[], np.ndarray | None] = _nothing
        self._host: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_view": _nothing}  # a copy has views of its own

    def tensor(self, like: torch.Tensor) -> torch.Tensor:
        """The tensor, on the device and of the type of ``like``."""
        if self._tensor is None:
            self._tensor = torch.full(self.shape, self.fill, dtype=like.dtype, device=like.device)
        if self._host is not None:
            self._tensor.copy_(torch.from_numpy(self._host))
            self._host = None
        if self._tensor.dtype != like.dtype or self._tensor.device != like.device:
            self._tensor = self._tensor.to(like)
        return self._tensor

    def bind(self, tensor: torch.Tensor) -> None:
        """Be a view on a tensor that belongs to somebody else."""
        self._tensor = tensor
        self.shape = tuple(tensor.shape)

    def put(self, tensor: torch.Tensor) -> None:
        """Take over a computed tensor. An array that somebody still holds is kept up to date."""
        held = self._view()
        self._host = None
        if held is not None and held.shape == tuple(tensor.shape) and self._tensor is not None:
            if self._tensor.data_ptr() != tensor.data_ptr():
                self._tensor.copy_(tensor)
            if self._tensor.device.type != "cpu":
                held[...] = tensor.cpu().numpy()
            return
        self.bind(tensor)

    def array(self, like: torch.Tensor) -> np.ndarray:
        """A writable NumPy view."""
        tensor = self.tensor(like)
        held = self._view()
        if tensor.device.type == "cpu":
            if held is None or held.__array_interface__["data"][0] != tensor.data_ptr() or held.shape != tensor.shape:
                if not tensor.is_contiguous():
                    tensor = self._tensor = tensor.contiguous()
                held = tensor.numpy()
                self._view = weakref.ref(held)
            return held
        if held is None or held.shape != tuple(tensor.shape):
            held = np.empty(tuple(tensor.shape), tensor.cpu().numpy().dtype)
            self._view = weakref.ref(held)
        held[...] = tensor.cpu().numpy()
        self._host = held
        return held

    def reshape(self, shape: Shape) -> None:
        """Give the half another shape; its contents are only kept when their number stays the same."""
        if tuple(shape) == tuple(self.shape):
            return
        if self._tensor is not None:
            same_count = self._tensor.numel() == math.prod(shape)
            self._tensor = self._tensor.reshape(shape) if same_count else None
        self._host = None
        self.shape = tuple(shape)


class Anchor:
    """Has the device and the type of a net's blobs. (It is no part of the net, so that no cycle keeps blobs alive.)"""

    def __init__(self) -> None:
        self.tensor = torch.empty(0)


class Blob:
    """A named array with its gradient (pycaffe: ``Blob``). Axes are (N, C, H, W) for images."""

    def __init__(self, shape: Shape, anchor: Anchor, data_fill: float = 0.0, diff_fill: float = 0.0) -> None:
        self._anchor = anchor
        self._shape = shape
        self._data = Half(tuple(shape), data_fill)
        self._diff = Half(tuple(shape), diff_fill)

    @property
    def data(self) -> np.ndarray:
        """The values, as a writable view."""
        return self._data.array(self._anchor.tensor)

    @property
    def diff(self) -> np.ndarray:
        """The gradient that the last backward pass left here, as a writable view."""
        return self._diff.array(self._anchor.tensor)

    @property
    def shape(self) -> Shape:
        """The shape; a blob of pooling indices also knows the plane they point into."""
        return self._shape

    @property
    def count(self) -> int:
        """The number of values."""
        return math.prod(self._shape)

    def _legacy_axis(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise ValueError(f"num, channels, height and width are for up to 4 axes; this blob has {len(self._shape)}")
        return self._shape[axis] if axis < len(self._shape) else 1

    @property
    def num(self) -> int:
        """The first axis (1 where there is none)."""
        return self._legacy_axis(0)

    @property
    def channels(self) -> int:
        """The second axis (1 where there is none)."""
        return self._legacy_axis(1)

    @property
    def height(self) -> int:
        """The third axis (1 where there is none)."""
        return self._legacy_axis(2)

    @property
    def width(self) -> int:
        """The fourth axis (1 where there is none)."""
        return self._legacy_axis(3)

    def reshape(self, *dims: int) -> None:
        """Change the shape. What stands downstream follows at the next ``net.reshape()`` or forward pass.

        Raises:
            ValueError: a dimension is not a positive whole number.
        """
        if any(int(d) != d or d < 0 for d in dims):
            raise ValueError(f"a blob's shape must be whole numbers of at least 0, found {dims}")
        self.take_shape(tuple(int(d) for d in dims))

    def take_shape(self, shape: Shape) -> None:
        """Follow a shape that was inferred (kept as it is, with the plane of pooling indices)."""
        self._shape = shape
        self._data.reshape(tuple(shape))
        self._diff.reshape(tuple(shape))

    def data_tensor(self) -> torch.Tensor:
        """The values, as the layers see them."""
        return self._data.tensor(self._anchor.tensor)

    def diff_tensor(self) -> torch.Tensor:
        """The gradient, as the layers see it."""
        return self._diff.tensor(self._anchor.tensor)

    def bind_data(self, tensor: torch.Tensor) -> None:
        """Be a view on a tensor that belongs to somebody else."""
        self.take_shape(tuple(tensor.shape))
        self._data.bind(tensor)

    def put_data(self, tensor: torch.Tensor) -> None:
        """Take over computed values."""
        if tuple(tensor.shape) != tuple(self._shape):
            self.take_shape(tuple(tensor.shape))
        self._data.put(tensor)

    def put_diff(self, tensor: torch.Tensor) -> None:
        """Take over a computed gradient."""
        self._diff.put(tensor)


class ParamBlob(Blob):
    """A parameter of a layer: its data is the torch parameter itself, its diff is the parameter's ``grad``.

    Of several layers that share one parameter, those with ``own_diff`` keep the gradient of their own share, as the
    SegNet fork does; otherwise the sum is common to all, as in BVLC Caffe.
    """

    def __init__(
        self, owner: nn.Module, name: str, shape: Shape, settings: ParamSpec, *, needs_diff: bool, own_diff: bool
    ) -> None:
        super().__init__(shape, Anchor())
        self._owner, self._name, self._own_diff = owner, name, own_diff
        self.lr_mult, self.decay_mult = settings.lr_mult, settings.decay_mult
        self.needs_diff = needs_diff

    @property
    def parameter(self) -> nn.Parameter:
        """The torch parameter behind the blob; of a shared one, the first owner's."""
        return self._owner.get_parameter(self._name)

    def data_tensor(self) -> torch.Tensor:
        """The parameter's values in this blob's shape."""
        self._data.bind(self.parameter.data.view(self._shape))
        return self._data.tensor(self.parameter.data)

    def diff_tensor(self) -> torch.Tensor:
        """The parameter's gradient in this blob's shape; zero before the first backward pass."""
        if not self._own_diff:
            if self.parameter.grad is None:
                self.parameter.grad = torch.zeros_like(self.parameter)
            self._diff.bind(self.parameter.grad.view(self._shape))
        return self._diff.tensor(self.parameter.data)

    @property
    def data(self) -> np.ndarray:
        """The values, as a writable view."""
        return self._data.array(self.data_tensor())

    @property
    def diff(self) -> np.ndarray:
        """The gradient, as a writable view."""
        return self._diff.array(self.diff_tensor())

    def add_diff(self, gradient: torch.Tensor, overwrite: bool) -> None:
        """Add to the gradient, or assign it."""
        diff = self.diff_tensor()
        gradient = gradient.view(self._shape)
        diff.copy_(gradient) if overwrite else diff.add_(gradient)

    def reshape(self, *dims: int) -> None:
        """Parameters keep their shape. Raises ValueError."""
        raise ValueError("a parameter's shape follows from its layer and cannot be changed")
