"""The batches that Caffe's data layers put out, and the images they were read from."""

from pathlib import Path

from google.protobuf import text_format

from prototxt.caffe_pb2 import LayerParameter, NetParameter

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "data"


def layer_of(case: str) -> LayerParameter:
    """The data layer of a recorded case."""
    net = text_format.Parse((GOLDEN / f"{case}.prototxt").read_text(), NetParameter())
    return net.layer[0]
