"""Upsample: put pooled values back where they came from (paper, section 3)."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer, may_look_at_values
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes


def put_at(x: torch.Tensor, mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Values at flat positions of a plane, zero elsewhere: x, mask (N, C, h, w) -> (N, C, height, width).

    Of two values for one place the later one stays (Caffe assigns); the gradient of each is that of its place.

    Raises:
        LayerError: a position lies outside the plane.
    """
    mask = mask.detach()
    if may_look_at_values() and mask.numel():
        lowest, highest = torch.aminmax(mask)
        inside = (lowest > -1) & (highest < height * width)  # NaN is no position either
        if bool(~inside):  # one question, for which a GPU has to be waited for
            raise LayerError(
                f"the mask holds positions from {lowest:g} to {highest:g}; expected 0 to {height * width - 1} for an "
                f"output plane of {height}x{width}"
            )
    # scatter's gradient reaches every value that was sent to a place, also those that did not stay: as in Caffe
    positions = mask.to(torch.int64)
    n, c = x.shape[:2]
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        values, places = (blob.permute(0, 2, 3, 1).flatten(1, 2) for blob in (x, positions))
        plane = x.new_zeros(n, height * width, c).scatter_(1, places, values)
        return plane.view(n, height, width, c).permute(0, 3, 1, 2)
    plane = x.new_zeros(n, c, height * width)
    return plane.scatter_(2, positions.flatten(2), x.flatten(2)).view(n, c, height, width)


@layer("Upsample")
class Upsample(TorchLayer):
    """Index upsampling.

    bottoms: x (N, C, h, w); mask (N, C, h, w), flat positions in the output plane
    top:     y (N, C, H, W): upsample_h x upsample_w, else scale times the bottom less ``pad_out``

    Unlike Caffe, which keeps the size of the first pass, the size follows the bottoms where it is a scale.
    """

    bottoms = (2, 2)

    def setup(self) -> None:
        """Read which way the size is given."""
        param = self.param = self.message.upsample_param
        self.fixed = param.HasField("upsample_h") or param.HasField("upsample_w")
        if self.fixed:
            if not (param.upsample_h > 1 and param.upsample_w > 1):
                sizes = f"`upsample_h: {param.upsample_h}` and `upsample_w: {param.upsample_w}`"
                raise LayerError(f"{sizes}; expected both, larger than 1")
            return
        by_axis = param.HasField("scale_h") or param.HasField("scale_w")
        if by_axis and (param.HasField("scale") or not (param.HasField("scale_h") and param.HasField("scale_w"))):
            raise LayerError(
                "`scale_h` or `scale_w` without the other or beside `scale`; expected both alone, or `scale`"
            )
        self.scale = (param.scale_h, param.scale_w) if by_axis else (param.scale, param.scale)
        if min(self.scale) < 2:
            raise LayerError(f"scale {self.scale}; expected at least 2")
        for wanted, scale, name in ((param.pad_out_h, self.scale[0], "h"), (param.pad_out_w, self.scale[1], "w")):
            if wanted and scale != 2:
                raise LayerError(f"`pad_out_{name}: true` with scale {scale}; expected scale 2")

    def output_size(self, x: Shape) -> tuple[int, int]:
        """Height and width of the output plane for a bottom (N, C, h, w)."""
        if self.fixed:
            return self.param.upsample_h, self.param.upsample_w
        return (
            x[2] * self.scale[0] - int(self.param.pad_out_h),
            x[3] * self.scale[1] - int(self.param.pad_out_w),
        )

    def pinned_plane(self) -> tuple[int, int] | None:
        """The output plane where it is written down."""
        return self.output_size(()) if self.fixed else None

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The output plane, checked against the plane that the mask points into."""
        x, mask = bottoms
        check_axes(x, 4, "pooled map")
        if tuple(x) != tuple(mask):
            raise LayerError(
                f"the pooled map {tuple(x)} and its mask {tuple(mask)} differ in shape; expected the same. Where the "
                "map was itself upsampled, the layer that did it has a size that does not fit: "
                f"set its `upsample_h: {mask[2]} upsample_w: {mask[3]}`"
            )
        self.height, self.width = self.output_size(x)
        self.plane = getattr(mask, "plane", None) or (self.height, self.width)
        if math.prod(self.plane) > self.height * self.width:
            raise LayerError(f"{self._planes()}: indices can fall outside; expected {self._fitting_size()}")
        return [(*x[:2], self.height, self.width)]

    def _planes(self) -> str:
        said = "the mask points into a plane of {}x{}".format(*self.plane)
        return f"{said}, the output is {self.height}x{self.width}"

    def _fitting_size(self) -> str:
        return "`upsample_h: {} upsample_w: {}`".format(*self.plane)

    def remarks(self) -> list[str]:
        """Caffe allows a larger plane, where every value then lies elsewhere."""
        if self.plane == (self.height, self.width):
            return []
        return [f"{self._planes()}, so the maps are not aligned; {self._fitting_size()} would fit"]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Put the values back."""
        return put_at(*bottoms, self.height, self.width)
