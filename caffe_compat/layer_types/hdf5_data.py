"""HDF5Data: batches from HDF5 files."""

from __future__ import annotations

from caffe_compat.data.hdf5 import HDF5Source
from caffe_compat.data_layer import DataLayer
from caffe_compat.errors import LayerError
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import HDF5DataParameter
from prototxt.errors import FormatError, MissingFileError


@layer("HDF5Data")
class HDF5Data(DataLayer):
    """Batches from the files of a list.

    tops: any number, each (N, …) from the dataset of its name
    """

    tops = (1, None)

    def setup(self) -> None:
        """Refuse what would have no effect."""
        super().setup()
        if self.message.HasField("transform_param"):
            raise LayerError("HDF5Data knows no transform_param; expected values that are ready. Take it out")

    def read_param(self) -> HDF5DataParameter:
        """As written."""
        return self.message.hdf5_data_param

    def make_source(self) -> HDF5Source:
        """Rows of datasets."""
        return HDF5Source(self.param, self.message.top, self.context.paths, self.seed)

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """As the files say; without them as for classes: of the pixels of an image, else one for each row."""
        try:
            return [(data[0], *shape[1:]) for shape in self.open().top_shapes()[1:]]
        except (MissingFileError, FormatError):  # told when the layer runs
            return [(data[0], 1, *data[2:]) if len(data) == 4 else data[:1]] * (self.top_count - 1)
