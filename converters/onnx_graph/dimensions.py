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
            return {blob: _dims(blob, shape, shapes_of_more[blob], items or 0) for blob, shape in shapes.items()}
    except NetError as error:
        raise BatchFixed(error.problems) from error


def _dims(blob: str, shape: Shape, of_more: Shape, items: int) -> Dims:
    """What is alike in both shapes, and names for what goes with the number of items."""
    pairs = enumerate(zip(shape, of_more, strict=True))
    return tuple(size if size == grown else _name(size, grown, items, f"{blob}.{i}") for i, (size, grown) in pairs)


def _name(size: int, grown: int, items: int, otherwise: str) -> str:
    """Of an axis that grows: so many times the number of items, where that is what it is."""
    times = size // items
    if (size, grown) != (times * items, times * (items + 1)):
        return otherwise
    return BATCH if times == 1 else f"{times}{BATCH}"
