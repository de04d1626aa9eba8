"""Which axes of a net's blobs go with the number of images: its shapes are found for two numbers and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.shapes import Shape
from converters.onnx_graph.registry import BatchFixed, Dims

#: The name of the number of images.
BATCH = "N"


def feed_shapes(net: Net) -> dict[str, Shape]:
    """The shapes of what comes from outside, as they are."""
    return {name: tuple(net.blobs[name].shape) for name in net.graph.feeds}


def image_count(net: Net) -> int | None:
    """How many items the first input of four axes has; None where there is none."""
    return next((shape[0] for shape in feed_shapes(net).values() if len(shape) == 4), None)


def with_batch(net: Net, items: int) -> dict[str, Shape]:
    """Shapes for another number of images: of those, and of every feed with as many items as they are."""
    before = image_count(net)
    feeds = feed_shapes(net).items()
    return {name: (items, *shape[1:]) if shape[:1] == (before,) else shape for name, shape in feeds}


@contextmanager
def shapes_for(net: Net, feeds: Mapping[str, Shape]) -> Iterator[dict[str, Shape]]:
    """The shapes of all blobs for these inputs. Inside, the layers are set to them; afterwards as they were.

    Raises NetError.
    """
    before = feed_shapes(net)
    try:
        yield net.graph.infer_shapes(feeds, tell=False)
    finally:
        net.graph.infer_shapes(before, tell=False)


def free_dims(net: Net) -> dict[str, Dims]:
    """The dims of each blob, those that go with the number of images by name.

    Raises BatchFixed where a layer stands another number of images no more.
    """
    items = image_count(net)
    feeds = feed_shapes(net)
    more = feeds if items is None else with_batch(net, items + 1)
    try:
        with shapes_for(net, feeds) as shapes, shapes_for(net, more) as shapes_of_more:
            return {
                blob: tuple(_dim(*pair, items or 0, f"{blob}.{i}") for i, pair in enumerate(zip(*both, strict=True)))
                for blob, both in zip(shapes, zip(shapes.values(), shapes_of_more.values(), strict=True), strict=True)
            }
    except NetError as error:
        raise BatchFixed(error.problems) from error


def _dim(size: int, size_of_more: int, items: int, own_name: str) -> int | str:
    """A fixed size, or the name of one that goes with the number of items."""
    if size == size_of_more:
        return size
    times = size // items
    if (size, size_of_more) != (times * items, times * (items + 1)):
        return own_name
    return BATCH if times == 1 else f"{times}{BATCH}"
