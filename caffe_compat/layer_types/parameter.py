"""Parameter: a parameter blob as a top."""

from __future__ import annotations

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import BlobSpec, TorchLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import FillerParameter


@layer("Parameter")
class Parameter(TorchLayer):
    """Values to be learnt, which other layers take as a bottom. They start at 0.

    top:  the parameter itself, in the same memory, of the shape in ``parameter_param``
    blob: the parameter
    """

    bottoms = (0, 0)
    overwrites_param_diffs = True  # in Caffe the top's gradient is the parameter's, in the same memory

    def setup(self) -> None:
        """Read the shape."""
        self.shape = tuple(self.message.parameter_param.shape.dim)
        if min(self.shape, default=1) < 0:
            raise LayerError(f"`shape` with the dims {self.shape}; expected no negative ones")

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The written shape."""
        return [self.shape]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The parameter."""
        return [BlobSpec("values", self.shape, FillerParameter())]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Hand out."""
        return self.values.view(self.shape)
