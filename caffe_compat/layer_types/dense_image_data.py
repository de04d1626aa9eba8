"""DenseImageData: pairs of an image and a label image, as a layer."""

from __future__ import annotations

from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.data_layer import DataLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import DenseImageDataParameter


@layer("DenseImageData")
class DenseImageData(DataLayer):
    """Batches from a list of image pairs.

    tops: data (N, 3, H, W), BGR, 0 to 255 unless transformed; label (N, 1, H, W)
    """

    def setup(self) -> None:
        """Images may be grey."""
        super().setup()
        self.channels = 3 if self.param.is_color else 1

    def read_param(self) -> DenseImageDataParameter:
        """As written."""
        return self.message.dense_image_data_param

    def make_source(self) -> DenseImageSource:
        """Pairs of images."""
        transform, context = self.message.transform_param, self.context
        return DenseImageSource(self.param, transform, self.reading_phase, context.dialect, context.paths, self.seed)

    def written_size(self) -> tuple[int, int] | None:
        """That of the crop, else the one that images are resized to."""
        if self.param.crop_height and self.param.crop_width:
            return self.param.crop_height, self.param.crop_width
        if self.param.new_height and self.param.new_width:
            return self.param.new_height, self.param.new_width
        return None

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """Labels, which may be smaller."""
        factor = max(1, self.param.label_divide_factor)
        return [(data[0], 1, data[2] // factor, data[3] // factor)]
