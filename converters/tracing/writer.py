"""The net as it is written, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from converters.tracing.values import Blob, Padded, Shape, Weight
from prototxt.dialects import FIELDS, TYPES
from prototxt.net_spec import Layers, NetSpec, net_input

_LAYERS = Layers()


class Writer:
    """Collects layers and their weights in one dialect."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.spec = NetSpec()
        self.weights: dict[str, list[Weight]] = {}
        self._put: dict[int, tuple[Padded, Blob]] = {}
        self._taken: set[str] = set()

    def knows(self, type_name: str) -> bool:
        """Whether the dialect has a layer type."""
        return self.dialect in TYPES.get(type_name, (self.dialect,))

    def knows_field(self, message: str, field: str) -> bool:
        """Whether the dialect has a field of a message."""
        return self.dialect in FIELDS.get(message, {}).get(field, (self.dialect,))

    def free(self, name: str) -> str:
        """The name, with a number behind it if it is taken; taken from now on."""
        unique, count = name, 2
        while unique in self._taken:
            unique, count = f"{name}_{count}", count + 1
        self._taken.add(unique)
        return unique

    def input(self, name: str, shape: Shape) -> Blob:
        """An input of the net."""
        name = self.free(name)
        top = _LAYERS.Input(shape=[{"dim": shape}]) if self.knows("Input") else net_input(*shape)
        self.spec[name] = top
        return Blob(name, shape, top)

    def layer(
        self,
        name: str,
        type_name: str,
        bottoms: Iterable[Blob],
        tops: Sequence[tuple[str, Shape]],
        weights: Sequence[Weight],
        params: dict[str, object],
    ) -> list[Blob]:
        """A layer of a free name. ``tops`` are names and shapes; the parameters are net_spec's."""
        made = getattr(_LAYERS, type_name)(*(b.top for b in bottoms), ntop=len(tops), name=name, **params)
        blobs = [
            Blob(top_name, shape, top)
            for (top_name, shape), top in zip(tops, made if isinstance(made, tuple) else (made,), strict=True)
        ]
        for blob in blobs:
            self.spec[blob.name] = blob.top
        self.weights[name] = list(weights)
        return blobs

    def unknown(self, shape: Shape) -> Blob:
        """What stands for the result of an operation that could not be translated, so that all others are tried."""
        return Blob("", shape, net_input(*shape))

    def with_zeros(self, padded: Padded, make: Callable[[], Blob]) -> Blob:
        """The blob of a Padded, made once by ``make()``."""
        if id(padded) not in self._put:
            self._put[id(padded)] = padded, make()
        return self._put[id(padded)][1]
