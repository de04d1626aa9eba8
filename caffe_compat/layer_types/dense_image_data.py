"""DenseImageData: pairs of an image and a label image, as a layer."""

from __future__ import annotations

from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.data_layer import ListDataLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape


@layer("DenseImageData")
class DenseImageData(ListDataLayer):
    """Batches from a list of image pairs.

    tops: data (N, 3, H, W), BGR, 0 to 255 unless transformed; label (N, 1, H, W)
    """

    source_class = DenseImageSource

    def setup(self) -> None:
        """Images may be grey."""
        super().setup()
        self.channels = 3 if self.param.is_color else 1

    def crop(self) -> tuple[int, int] | None:
        """The one of this layer's own message, which goes for the label too."""
        height, width = self.param.crop_height, self.param.crop_width
        return (height, width) if height and width else None

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """Labels, which may be smaller."""
        factor = max(1, self.param.label_divide_factor)
        return [(data[0], 1, data[2] // factor, data[3] // factor)]
