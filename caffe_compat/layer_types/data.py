"""Data: batches from an LMDB or a LevelDB."""

from __future__ import annotations

import logging

from caffe_compat.data.datum import DatumSource
from caffe_compat.data_layer import DataLayer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import DataParameter

log = logging.getLogger(__name__)

_V1_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


@layer("Data")
class Data(DataLayer):
    """Batches from a database, one record after the other, round and round.

    tops: data (N, C, H, W); label (N,), which may be left out
    """

    tops = (1, 2)

    def setup(self) -> None:
        """Say which settings have no effect."""
        super().setup()
        self.channels = 1 if self.message.transform_param.force_gray else 3
        unread = [field for field in _V1_FIELDS if self.param.HasField(field)]
        if unread:
            log.warning(
                "layer %r: data_param { %s } has no effect, as in Caffe; expected in transform_param",
                self.name,
                ", ".join(unread),
            )

    def read_param(self) -> DataParameter:
        """As written."""
        return self.message.data_param

    def make_source(self) -> DatumSource:
        """Records."""
        transform, paths = self.message.transform_param, self.context.paths
        labelled = self.top_count > 1
        return DatumSource(self.param, transform, self.reading_phase, paths, self.seed, labelled=labelled)

    def written_size(self) -> tuple[int, int] | None:
        """That of the crop."""
        size = self.message.transform_param.crop_size
        return (size, size) if size else None

    def shapes_beside(self, data: Shape) -> list[Shape]:
        """Labels."""
        return [(data[0],)] * (self.top_count - 1)
