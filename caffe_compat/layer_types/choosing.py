"""Layers that choose items of the batch by the values of another blob: BatchReindex, Filter."""

from __future__ import annotations

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes


class Choosing(TorchLayer):
    """The last bottom tells which items of the others are taken. It gets no gradient."""

    bottoms = (2, None)

    def may_force_backward(self, bottom: int) -> bool:
        """Not to the last bottom."""
        return bottom < len(self.message.bottom) - 1

    def chosen(self, told: torch.Tensor, items: int) -> torch.Tensor:
        """The indices of the items to take. Raises LayerError."""
        raise NotImplementedError

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Take the items."""
        *sources, told = bottoms
        if self.training and told.requires_grad:
            raise LayerError(
                f"a gradient is asked for {self.message.bottom[-1]!r}, which only tells what to take; expected "
                f"{'`propagate_down: true` ' * len(sources)}`propagate_down: false`, or a blob that nothing learns"
            )
        indices = self.chosen(told, sources[0].shape[0])
        tops = tuple(source.index_select(0, indices) for source in sources)
        return tops if len(tops) > 1 else tops[0]


@layer("BatchReindex")
class BatchReindex(Choosing):
    """Items in the order, and as often, as the second bottom lists them.

    bottoms: x (N, ...); indices (M,) from 0 to N - 1
    top:     y (M, ...)
    """

    bottoms = (2, 2)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """As many items as indices."""
        x, indices = bottoms
        check_axes(indices, 1, "blob of indices")
        return [(indices[0], *x[1:])]

    def chosen(self, told: torch.Tensor, items: int) -> torch.Tensor:
        """The indices themselves, towards zero where they are no whole numbers (Caffe)."""
        indices = told.detach().to(torch.int64)
        if may_look_at_values() and indices.numel():
            lowest, highest = (int(v) for v in torch.aminmax(indices))
            if lowest < 0 or highest >= items:
                raise LayerError(f"indices from {lowest} to {highest}; expected 0 to {items - 1} for {items} items")
        return indices


@layer("Filter")
class Filter(Choosing):
    """The items for which the selector is not 0.

    bottoms: any number of (N, ...); the selector, (N,) or (N, 1, 1, 1)
    tops:    as many (M, ...) with M items, 0 when none was selected; M is only known when it runs
    """

    tops = (1, None)

    def setup(self) -> None:
        """Count."""
        sources = len(self.message.bottom) - 1
        if self.top_count != sources:
            raise LayerError(f"{self.top_count} tops for {sources} bottoms and a selector; expected {sources}")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """All items, until the selector is known."""
        *sources, selector = (tuple(shape) for shape in bottoms)
        if not selector or any(size != 1 for size in selector[1:]):
            raise LayerError(f"the selector has the shape {selector}; expected one value for each item")
        if any(source[:1] != selector[:1] for source in sources):
            raise LayerError(f"a selector for {selector[0]} items, bottoms {sources}; expected as many items in each")
        return sources

    def chosen(self, told: torch.Tensor, items: int) -> torch.Tensor:
        """Where the selector is not 0."""
        return told.detach().flatten().nonzero().flatten()
