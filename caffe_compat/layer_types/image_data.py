"""Data layers with a list of images: with a class each, with label images, with windows in them."""

from __future__ import annotations

from caffe_compat.data.image_list import OLD_FORKS, ImageSource
from caffe_compat.data.seg_image import (
    ImageSegSource,
    WindowClsSource,
    WindowInstSegSource,
    WindowSegBinarySource,
    WindowSegSource,
)
from caffe_compat.data.window_list import WindowSource
from caffe_compat.data_layer import ListDataLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import ImageDataParameter


@layer("ImageData")
class ImageData(ListDataLayer):
    """Images with a class each.

    tops: data (N, 3, H, W), BGR, 0 to 255 unless transformed; label (N,)
    """

    source_class = ImageSource

    def read_param(self) -> ImageDataParameter:
        """The forks of 2016 have a default for ``batch_size``."""
        param = ImageDataParameter(batch_size=0 if self.context.dialect in OLD_FORKS else 1)
        param.MergeFrom(self.message.image_data_param)
        return param

    def setup(self) -> None:
        """Images may be grey."""
        super().setup()
        self.channels = 3 if self.param.is_color else 1

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """A class for each image."""
        return [data[:1]]


@layer("ImageSegData")
class ImageSegData(ImageData):
    """Images with label images (DeepLab, DeconvNet).

    tops: data (N, 3, H, W); label (N, 1, H, W); size (N, 1, 1, 2), the height and width that are image and not padding
    """

    source_class = ImageSegSource
    tops = (3, 3)
    makes_tops = True

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """A label as large as the image, and its size."""
        return [(data[0], 1, *data[2:]), (data[0], 1, 1, 2)]


@layer("WindowSegData")
class WindowSegData(ImageSegData):
    """Windows of images with their part of the label image (DeconvNet). Tops as ImageSegData."""

    source_class = WindowSegSource


@layer("WindowInstSegData")
class WindowInstSegData(ImageSegData):
    """Windows around one object each; other objects get a label of their own (DeconvNet). Tops as ImageSegData."""

    source_class = WindowInstSegSource


@layer("WindowSegBinary")
class WindowSegBinary(ImageSegData):
    """Windows with labels for object and background (DeconvNet). Tops as ImageSegData."""

    source_class = WindowSegBinarySource


@layer("WindowClsData")
class WindowClsData(ImageSegData):
    """Windows with the classes that occur in them (DeconvNet).

    tops: data (N, 3, H, W); classes (N, label_dim, 1, 1), 0 or 1; size (N, 1, 1, 2)
    """

    source_class = WindowClsSource

    def source_options(self) -> dict[str, int]:
        """The number of classes."""
        return {"label_dim": self.message.window_cls_data_param.label_dim}

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """One value for each class, and the size."""
        return [(data[0], self.message.window_cls_data_param.label_dim, 1, 1), (data[0], 1, 1, 2)]


@layer("WindowData")
class WindowData(ListDataLayer):
    """Windows of images, drawn at random with a share of objects (R-CNN).

    tops: data (N, 3, crop_size, crop_size); label (N,), 0 for background
    """

    source_class = WindowSource

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """A class for each window."""
        return [data[:1]]
