"""The base of every layer type: what a layer says about itself before and while it runs.

A layer is built from its message alone and allocates nothing: shapes, parameters and cost are known before a
single tensor exists. ``Net`` then gives it its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import nn

from caffe_compat.coordinates import IDENTITY, PLACE_KEEPING, PlaneMap
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import TEST, TRAIN, FillerParameter, LayerParameter

if TYPE_CHECKING:
    from caffe_compat.blob import ParamBlob
    from caffe_compat.graph import Node
    from caffe_compat.paths import Paths


class BlobSpec(NamedTuple):
    """A parameter blob that a layer wants: its name in torch, its shape, and what it starts with.

    ``values`` are taken instead of the filler's where they are given, in the blob's order.
    """

    name: str
    shape: Shape
    filler: FillerParameter
    values: Sequence[float] | None = None


class Context(NamedTuple):
    """What a layer may know beyond its own message."""

    phase: int = TRAIN
    dialect: str = "segnet"
    paths: Paths | None = None
    input_shapes: dict[str, Shape] = {}  # noqa: RUF012 (never written to)
    image_size: tuple[int, int] | None = None
    fallback_size: tuple[int, int] | None = None
    where: str = ""
    """The layer's place for messages, where it cannot be added later."""

    @property
    def scalar(self) -> Shape:
        """The shape of a single value: DeconvNet's blobs always have four axes."""
        return (1, 1, 1, 1) if self.dialect == "deconvnet" else ()

    def sized(self, name: str, written: Shape | None) -> Shape | None:
        """The shape of an input: the one given for it, else the written one with the image size given for all."""
        if name in self.input_shapes:
            return self.input_shapes[name]
        if self.image_size and written is not None and len(written) == 4 and tuple(written[2:]) != (1, 1):
            return (*written[:2], *self.image_size)
        return written


_recomputing = ContextVar("_recomputing", default=False)


@contextmanager
def recomputing() -> Iterator[None]:
    """While a forward pass is repeated for the backward pass: what it leaves behind was left there already."""
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


def leaves_traces() -> bool:
    """Whether a forward pass may change what the next one begins with: statistics, carried states."""
    return not _recomputing.get()


_exactly = ContextVar("_exactly", default=False)


@contextmanager
def exactly() -> Iterator[None]:
    """While the pycaffe face runs a layer on which positions of a max pooling hang: digits before time."""
    token = _exactly.set(True)
    try:
        yield
    finally:
        _exactly.reset(token)


def is_exact() -> bool:
    """Whether sums are to be as near to the exact ones as Caffe's, at some cost of time: not while torch traces it."""
    return may_look_at_values() and _exactly.get()


def may_look_at_values() -> bool:
    """Whether a forward pass may ask what is in a tensor: not while torch traces it."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())


class TorchLayer(nn.Module):
    """One layer. Subclasses say ``bottoms`` and ``tops`` (smallest and largest number, None for any).

    ``forward`` uses plain attributes that ``setup`` and ``top_shapes`` have set, never the message itself, so that
    torch can trace it.
    """

    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    is_loss: ClassVar[bool] = False
    """The first top has loss weight 1 by default, and missing tops are created."""
    makes_tops: ClassVar[bool] = False
    """Missing tops are created."""
    is_source: ClassVar[bool] = False
    """The tops come from outside: a data layer or an input."""
    kept: ClassVar[Mapping[int, float]] = {}
    """Tops that hold a value from the start and that no pass changes: what is written there by hand stays."""
    has_backward: ClassVar[bool] = True
    overwrites_param_diffs: ClassVar[bool] = False
    """Caffe's code assigns the parameters' gradients where other layers add to them."""
    ignores_propagate_down: ClassVar[bool] = False
    """Caffe's code computes every gradient without asking whether it is wanted."""

    def __init__(self, message: LayerParameter, context: Context) -> None:
        super().__init__()
        self.message = message
        self.context = context
        self.top_count = len(message.top)
        self.in_place = len(message.bottom) > 0 and list(message.bottom[:1]) == list(message.top[:1])
        self.param_blobs: list[ParamBlob] = []
        self.setup()
        self.train(context.phase == TRAIN)

    def setup(self) -> None:
        """Read the message. Raises LayerError."""

    def extra_repr(self) -> str:
        """Bottoms and tops, for ``print(net)``."""
        return f"{', '.join(self.message.bottom) or 'nothing'} -> {', '.join(self.message.top) or 'nothing'}"

    @property
    def name(self) -> str:
        """Caffe's name of the layer, which need not be unique in a net."""
        return self.message.name

    @property
    def type(self) -> str:
        """Caffe's type name."""
        return self.message.type

    @property
    def blobs(self) -> list[ParamBlob]:
        """The parameter blobs, in Caffe's order."""
        return self.param_blobs

    @property
    def phase(self) -> int:
        """TRAIN or TEST. It follows ``train()`` and ``eval()``."""
        return TRAIN if self.training else TEST

    def train(self, mode: bool = True) -> TorchLayer:
        """As in torch, but a phase written in the layer itself stays (Caffe: ``layer.phase``)."""
        return super().train(self.message.phase == TRAIN if self.message.HasField("phase") else mode)

    def connect(self, bottoms: Sequence[str], above: Sequence[Node]) -> None:
        """Look at the layers above, once, before any shape is asked for. Raises LayerError."""

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The shapes of the tops for these bottoms. Raises LayerError when the bottoms do not fit."""
        raise NotImplementedError

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The parameter blobs for these bottoms, in Caffe's order."""
        return []

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """Multiplications with an addition in one forward pass; 0 where there is next to nothing."""
        return 0

    def may_force_backward(self, bottom: int) -> bool:
        """Whether ``force_backward`` reaches this bottom (Caffe: AllowForceBackward)."""
        return not (self.is_loss and bottom == 1)

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The tops: one tensor, or a tuple of as many as there are."""
        raise NotImplementedError

    def overwritten_diffs(
        self, content: torch.Tensor, top_diff: torch.Tensor, diffs: list[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """Parameter gradients as Caffe gets them when in-place layers have overwritten the bottom.

        ``content`` is what the blob holds at the time of backward. Only a layer whose backward reads its bottom
        again gives anything but ``diffs``.
        """
        return diffs

    def plane_map(self) -> PlaneMap | None:
        """Where rows and columns of the first bottom lie in the tops; None where that cannot be said."""
        return IDENTITY if self.type in PLACE_KEEPING else None

    def must_guess_size(self) -> bool:
        """Whether the size of the tops can neither be read nor computed: a data layer whose data is not there."""
        return False

    def remarks(self) -> list[str]:
        """What the user should know of the shapes that were found, though they are no error."""
        return []

    def label_rule(self) -> tuple[int, int | None] | None:
        """For a loss on labels, its second bottom: how many classes there are, and which value is left out, if any."""
        return None

    def pinned_plane(self) -> tuple[int, int] | None:
        """The largest plane (H, W) that the indices may point into, where the message fixes it."""
        return None

    def state(self) -> dict[str, int] | None:
        """What a training must keep of the layer beside its parameters, for JSON; None for nothing."""
        return None

    def load_state(self, state: dict[str, int]) -> None:
        """Go on from what ``state`` gave. Raises ValueError, KeyError, TypeError for anything else."""
        raise ValueError(f"layer {self.name!r} ({self.type}) keeps no state")

    def may_overwrite(self) -> bool:
        """Whether forward may write into its bottom: an in-place layer outside of any gradient."""
        return self.in_place and not torch.is_grad_enabled()
