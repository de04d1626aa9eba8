"""Layers that compute nothing: Input, Split, Silence."""

from __future__ import annotations

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape


@layer("Input")
class Input(TorchLayer):
    """Blobs that are fed from outside. tops: any number, one ``shape`` for all or one each."""

    bottoms = (0, 0)
    tops = (1, None)
    is_source = True

    def setup(self) -> None:
        """Keep every top."""
        self.kept = dict.fromkeys(range(self.top_count), 0.0)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The shapes written in the prototxt, or those given for the net."""
        written = [tuple(shape.dim) for shape in self.message.input_param.shape]
        tops = list(self.message.top)
        written = written * len(tops) if len(written) == 1 else written or [None] * len(tops)
        shapes = [self.context.sized(top, shape) for top, shape in zip(tops, written, strict=False)]
        if len(shapes) != len(tops) or None in shapes:
            raise LayerError(
                f"{len(written)} times `shape` for {len(tops)} tops; expected one for all, one each, or input_shapes=…"
            )
        return shapes


@layer("Split")
class Split(TorchLayer):
    """The same values for several consumers; their gradients are added. Put in where a blob is used twice."""

    tops = (1, None)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape for each top."""
        return [bottoms[0]] * self.top_count

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Hand on."""
        tops = tuple(bottoms[0].view_as(bottoms[0]) for _ in range(self.top_count))
        return tops if len(tops) > 1 else tops[0]


@layer("Silence")
class Silence(TorchLayer):
    """Takes blobs that nobody else wants, so that they are no outputs of the net."""

    bottoms = (1, None)
    tops = (0, 0)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """None."""
        return []

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Nothing."""
        return ()
