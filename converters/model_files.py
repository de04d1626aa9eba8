"""A net and its weights as files: read together, and written together, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from prototxt import text
from prototxt.caffe_pb2 import NetParameter
from prototxt.caffemodel import new_caffemodel
from prototxt.errors import CaffeError
from prototxt.files import replacing
from prototxt.weights_h5 import read_weights

PathName = str | os.PathLike[str]
Write = Callable[[Path], object]


def blobs_by_layer(weights: PathName | None) -> dict[str, list[np.ndarray]]:
    """Layer name → its blobs, of a weights file; empty without one. Raises FormatError, MissingFileError."""
    stored = read_weights(weights).layers if weights else []
    return {layer.name: [blob.data for blob in layer.blobs if blob is not None] for layer in stored}


def model_writers(
    stem: Path, net: NetParameter, blobs: Sequence[Sequence[np.ndarray] | None] | None, dialect: str
) -> dict[Path, Write]:
    """What writes ``STEM.prototxt`` and, where there are blobs for its layers, ``STEM.caffemodel``.

    A layer whose blobs are None is left out of the weights, so that Caffe fills it anew.
    """
    writers: dict[Path, Write] = {
        stem.with_name(stem.name + ".prototxt"): lambda draft: draft.write_text(text.format(net), "utf-8")
    }
    if blobs is not None:
        stored = NetParameter()
        stored.CopyFrom(net)
        del stored.layer[:]
        stored.layer.extend(layer for layer, own in zip(net.layer, blobs, strict=True) if own is not None)
        model = new_caffemodel(stored, dict(enumerate(own for own in blobs if own is not None)), dialect)
        writers[stem.with_name(stem.name + ".caffemodel")] = model.write
    return writers


def write_all(writers: Mapping[Path, Write], force: bool, replaced: Sequence[str] = ()) -> list[Path]:
    """Write files, none of them where one is there already. Returns their paths.

    Args:
        writers: path → what writes it to another path, from which it is moved.
        force: replace existing files.
        replaced: names of files that are replaced in any case.

    Raises:
        CaffeError: with every file that is there.
    """
    refuse_existing([path for path in writers if path.name not in replaced], force)
    with ExitStack() as together:  # a failure leaves none of them
        for path, write in writers.items():
            write(together.enter_context(replacing(path)))
    return list(writers)


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Raise CaffeError with every file that is there already, unless they are to be replaced by ``force``."""
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise CaffeError([f"{path}: exists already; expected a new name, or --force" for path in there])
