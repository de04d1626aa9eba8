"""Layers that a user wrote in Python for pycaffe: the class they derive from, and how their modules are found."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from caffe_compat.blob import Anchor, Blob
from caffe_compat.errors import LayerError
from prototxt.caffe_pb2 import TRAIN, LayerParameter
from prototxt.errors import nearest

_SHIPPED = str(Path(__file__).parent / "python_modules")
_METHODS = ("setup", "reshape", "forward")


class BlobVector(list[Blob]):
    """The parameter blobs of a Python layer (pycaffe: ``BlobVec``)."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = Anchor()

    def add_blob(self, *dims: int) -> None:
        """One more blob, of zeros."""
        self.append(Blob(tuple(int(d) for d in dims), self.anchor))


class Layer:
    """The base of a layer in Python, as pycaffe has it (``caffe.Layer``).

    Subclasses have ``setup``, ``reshape`` and ``forward``, each with (bottom, top), and ``backward`` with (top,
    propagate_down, bottom) where a gradient passes; bottom and top are lists of blobs. ``blobs`` are the parameters.
    """

    type = "Python"

    def __init__(self, param: LayerParameter) -> None:
        self.blobs = BlobVector()
        self.param_str = param.python_param.param_str
        self.phase = TRAIN


def find_class(module: str, name: str, prototxt: Path | None, otherwise: str = "") -> type[Layer]:
    """The class of a Python layer. ``otherwise`` says how to do without the module.

    Raises:
        LayerError: there is no such module, it cannot be imported, or has no such class.
    """
    with importing(prototxt):
        try:
            found = importlib.import_module(module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                raise LayerError(_not_found(module, prototxt) + otherwise) from error
            raise LayerError(f"module {module!r} cannot be imported, {type(error).__name__}: {error}") from error
    place = getattr(found, "__file__", module)
    cls = getattr(found, name, None)
    if cls is None:
        hint = nearest(name, vars(found)) or "expected a class of this name"
        raise LayerError(f"there is no {name!r} in {place}; {hint}")
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise LayerError(
            f"{name!r} in {place} does not derive from caffe_compat.Layer; expected `class {name}(caffe.Layer)`. Where "
            "a Caffe is installed, `import caffe` is that one: write `import caffe_compat as caffe`"
        )
    missing = [method for method in _METHODS if not hasattr(cls, method)]
    if missing:
        raise LayerError(f"{name!r} in {place} has no {' and no '.join(missing)}; expected {', '.join(_METHODS)}")
    return cls


@contextmanager
def importing(prototxt: Path | None) -> Iterator[None]:
    """While a user's module is imported: more places to look at, after Python's own, and ``import caffe`` works.

    ``caffe`` is this package, unless a Caffe is installed.
    """
    aliased = "caffe" not in sys.modules and not _is_installed("caffe")
    added = [place for place in [*_folders(prototxt), _SHIPPED] if place not in sys.path]
    sys.path.extend(added)
    importlib.invalidate_caches()
    if aliased:
        sys.modules["caffe"] = sys.modules["caffe_compat"]
    try:
        yield
    finally:
        if aliased:
            del sys.modules["caffe"]
        for place in added:
            sys.path.remove(place)


def _folders(prototxt: Path | None) -> Sequence[str]:
    return [*([str(prototxt.parent)] if prototxt else []), os.getcwd()]


def _is_installed(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # a mere folder of that name has no origin


def _not_found(module: str, prototxt: Path | None) -> str:
    places = "".join(f", in {place}" for place in dict.fromkeys(_folders(prototxt)))
    return (
        f"there is no Python module {module!r}; looked on Python's path{places}. Put it beside the prototxt, or add "
        "its folder to PYTHONPATH"
    )
