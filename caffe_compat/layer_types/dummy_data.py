"""DummyData: tops that fillers fill, for nets without data of their own."""

from __future__ import annotations

from typing import TypeVar

import torch

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler, fill
from caffe_compat.layer_base import TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import FillerParameter

T = TypeVar("T")

_LEGACY = ("num", "channels", "height", "width")


@layer("DummyData")
class DummyData(TorchLayer):
    """Tops of written shapes, each with values of its own, also where one filler is for all.

    A constant filler fills once, so that values written by hand stay; every other one draws anew in each pass.

    tops: any number; ``shape`` (or all of num, channels, height, width) one for all or one each, ``data_filler`` too,
          or none for zeros
    """

    bottoms = (0, 0)
    tops = (1, None)
    is_source = True

    def setup(self) -> None:
        """Read shapes and fillers."""
        param = self.message.dummy_data_param
        problems = [
            f"{count} times `{field}` for {self.top_count} tops; expected {expected}"
            for field, count, expected in self._counts()
            if count not in (1, self.top_count)
        ]
        if param.shape and any(len(getattr(param, field)) for field in _LEGACY):
            problems = ["both `shape` and num, channels, height, width are given; expected one of these"]
        if problems:
            raise LayerError(problems)
        self.fillers = self._for_each(list(param.data_filler) or [FillerParameter()])
        for one in self.fillers:
            check_filler(one)
        self.kept = {i: one.value for i, one in enumerate(self.fillers) if one.type == "constant"}

    def _counts(self) -> list[tuple[str, int, str]]:
        """Each field that is wanted once or once for each top, how often it is there, and what is expected."""
        param, one_or_each = self.message.dummy_data_param, f"1 for all or {self.top_count}"
        legacy = any(len(getattr(param, field)) for field in _LEGACY)
        shapes = [(field, len(getattr(param, field)), one_or_each) for field in (_LEGACY if legacy else ("shape",))]
        return [*shapes, ("data_filler", len(param.data_filler) or 1, f"none, {one_or_each}")]

    def _written(self) -> list[Shape]:
        param = self.message.dummy_data_param
        if param.shape:
            return self._for_each([tuple(shape.dim) for shape in param.shape])
        return list(zip(*(self._for_each(list(getattr(param, field))) for field in _LEGACY), strict=True))

    def _for_each(self, values: list[T]) -> list[T]:
        return values if len(values) == self.top_count else values * self.top_count

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The written shapes, or those given for the net."""
        pairs = zip(self.message.top, self._written(), strict=True)
        self.shapes = [self.context.sized(top, shape) for top, shape in pairs]
        if any(dim < 0 for shape in self.shapes for dim in shape):
            raise LayerError(f"`shape` with the dims {self.shapes}; expected no negative ones")
        return self.shapes

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Fill."""
        tops = tuple(torch.empty(shape) for shape in self.shapes)
        for top, one in zip(tops, self.fillers, strict=True):
            fill(top, one)
        return tops
