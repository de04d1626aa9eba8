"""Scale and Bias: factors and offsets along some axes, learnt or from a second bottom."""

from __future__ import annotations

import torch

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.caffe_pb2 import FillerParameter


class _AlongAxes(TorchLayer):
    """Something with the shape of the bottom's axes from ``axis`` on, ``num_axes`` of them (-1: to the end)."""

    bottoms = (1, 2)

    def covered(self, *bottoms: Shape) -> Shape:
        """The shape of the factor or offset. Raises LayerError."""
        x = bottoms[0]
        if len(bottoms) == 2:
            other = tuple(bottoms[1])
            self.axis = canonical_axis(self.written_axis, len(x)) if other else 0
            if tuple(x[self.axis : self.axis + len(other)]) != other:
                raise LayerError(
                    f"the second bottom {other} does not match the first, {tuple(x)}, from axis {self.axis} on; "
                    f"expected {tuple(x[self.axis : self.axis + len(other)])}"
                )
            return other
        self.axis = canonical_axis(self.written_axis, len(x))
        end = len(x) if self.num_axes == -1 else self.axis + self.num_axes
        if self.num_axes < -1 or end > len(x):
            raise LayerError(f"`axis: {self.written_axis} num_axes: {self.num_axes}` for the bottom {tuple(x)}; "
                             f"expected at most {len(x) - self.axis} axes, or -1 for all")  # fmt: skip
        return tuple(x[self.axis : end])

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The first bottom's own shape."""
        shape = self.covered(*bottoms)
        for name in ("scale", "bias"):
            blob = getattr(self, name, None)
            if blob is not None and tuple(blob.shape) != shape:
                raise LayerError(f"the bottom takes a {name} of the shape {shape}; this layer's is {tuple(blob.shape)}")
        return [bottoms[0]]

    def spread(self, values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The values in a shape that broadcasts to the bottom."""
        after = x.dim() - self.axis - values.dim()
        return values.reshape(*(1,) * self.axis, *values.shape, *(1,) * after)


@layer("Scale")
class Scale(_AlongAxes):
    """x times a factor, plus an offset with ``bias_term``.

    bottoms: x; the factor, if it is not learnt
    top:     the first bottom's shape
    blobs:   scale (with one bottom; 1 by default), bias (with ``bias_term``; 0 by default)
    """

    def setup(self) -> None:
        """Read the axes."""
        param = self.message.scale_param
        self.written_axis, self.num_axes, self.has_bias = param.axis, param.num_axes, param.bias_term
        self.filler = param.filler if param.HasField("filler") else FillerParameter(value=1)
        check_filler(self.filler)
        check_filler(param.bias_filler)

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """What is learnt."""
        shape = self.covered(*bottoms)
        specs = [BlobSpec("scale", shape, self.filler)] if len(bottoms) == 1 else []
        return specs + ([BlobSpec("bias", shape, self.message.scale_param.bias_filler)] if self.has_bias else [])

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Multiply and add."""
        x = bottoms[0]
        scale = self.spread(bottoms[1] if len(bottoms) == 2 else self.scale, x)
        y = x.mul_(scale) if self.may_overwrite() else x * scale
        return y.add_(self.spread(self.bias, x)) if self.has_bias else y


@layer("Bias")
class Bias(_AlongAxes):
    """x plus an offset.

    bottoms: x; the offset, if it is not learnt
    top:     the first bottom's shape
    blobs:   bias (with one bottom)
    """

    def setup(self) -> None:
        """Read the axes."""
        param = self.message.bias_param
        self.written_axis, self.num_axes = param.axis, param.num_axes
        check_filler(param.filler)

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The offset, with one bottom."""
        shape = self.covered(*bottoms)
        return [BlobSpec("bias", shape, self.message.bias_param.filler)] if len(bottoms) == 1 else []

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Add."""
        x = bottoms[0]
        offset = self.spread(bottoms[1] if len(bottoms) == 2 else self.bias, x)
        return x.add_(offset) if self.may_overwrite() else x + offset
