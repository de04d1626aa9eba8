"""Which class runs which layer type, in which dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prototxt.errors import nearest

if TYPE_CHECKING:
    from caffe_compat.layer_base import TorchLayer

_classes: dict[tuple[str, str | None], type[TorchLayer]] = {}


def layer(type_name: str, *dialects: str) -> Callable[[type[TorchLayer]], type[TorchLayer]]:
    """Register a class under Caffe's type name: for every dialect, or only for those named.

    A class for one dialect goes before the class for every dialect.

    Raises:
        ValueError: the name is taken (in that dialect).
    """

    def register(cls: type[TorchLayer]) -> type[TorchLayer]:
        for dialect in dialects or (None,):
            key = (type_name, dialect)
            if key in _classes:
                raise ValueError(f"layer type {key} is already registered, by {_classes[key].__qualname__}")
            _classes[key] = cls
        return cls

    return register


def find(type_name: str, dialect: str) -> type[TorchLayer] | None:
    """The class that runs a type in a dialect, or None."""
    return _classes.get((type_name, dialect)) or _classes.get((type_name, None))


def known_types() -> list[str]:
    """Every registered type name, sorted (pycaffe: ``layer_type_list``)."""
    return sorted({name for name, _ in _classes})


#: How to help oneself where a type is unknown.
OWN_TYPES = (
    'A layer type of one\'s own is registered with `@caffe_compat.layer("Name")` on a subclass of '
    "caffe_compat.TorchLayer before the net is built"
)


def unknown_type(type_name: str) -> str:
    """What to say of a type that nobody registered; ``OWN_TYPES`` is the remedy."""
    hint = nearest(type_name, known_types())
    return f"unknown layer type {type_name!r}" + (f"; {hint}" if hint else "")
