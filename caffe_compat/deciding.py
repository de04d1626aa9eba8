"""Which blob of a net for segmentation says what each pixel is."""

from __future__ import annotations

from caffe_compat.errors import NetError
from caffe_compat.graph import Node
from caffe_compat.net import Net


def deciding_blob(net: Net) -> tuple[str, bool]:
    """The last blob that says what each pixel is, and whether it holds labels (of an ArgMax), not scores of classes.

    Raises:
        NetError: there is none.
    """
    for node in reversed(net.graph.nodes):
        name = _map_of(node)
        if name is not None:
            return name, node.layer.type == "ArgMax"
    raise NetError(
        "no layer gives a map of labels; expected scores of shape (N, classes, H, W), as a segmentation net has"
    )


def _map_of(node: Node) -> str | None:
    """The blob of a layer that holds a score for each class at each pixel, or the label of each pixel."""
    bottoms = list(zip(node.bottoms, node.bottom_shapes, strict=True)) if node.layer.is_loss else []
    for name, shape in [*bottoms, *zip(node.tops, node.top_shapes, strict=True)]:
        if len(shape) == 4 and min(shape[2:]) > 1 and (shape[1] > 1 or node.layer.type == "ArgMax"):
            return name
    return None
