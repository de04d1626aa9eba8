"""Caffe's HDF5 weights (.caffemodel.h5), and reading weights of either format.

Layout, source Caffe, Net::ToHDF5 and Net::CopyTrainedLayersFromHDF5: a group ``/data/<layer name>`` for every layer,
in it one float dataset per parameter, named by the parameter's index; the same under ``/diff`` where gradients are
stored. A parameter shared with an earlier layer is stored with that layer alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import h5py
import numpy as np

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.caffemodel import Caffemodel, parse_caffemodel
from prototxt.errors import FormatError
from prototxt.files import map_file, replacing
from prototxt.h5_file import Met, members, opened, read_array
from prototxt.weights import LayerWeights

_MOST_BLOBS = 1000
"""Of one layer; the largest known has five."""

_OTHER_LAYOUTS = (
    # (a name that is in the file, what the file is and what to do)
    ("model_weights", "Keras weights; give a .caffemodel or Caffe's .caffemodel.h5"),
    ("layer_names", "Keras weights; give a .caffemodel or Caffe's .caffemodel.h5"),
    ("layers", "Keras weights; give a .caffemodel or Caffe's .caffemodel.h5"),
    ("history", "a solver state (.solverstate.h5); its weights are in the .caffemodel.h5 of the same iteration"),
    ("iter", "a solver state (.solverstate.h5); its weights are in the .caffemodel.h5 of the same iteration"),
)


class H5Weights:
    """The weights of an HDF5 file: ``layers`` with name and blobs, by name; the file has no types and no net.

    A blob is None where the file leaves out a parameter before the last one stored: it is shared with another layer.
    """

    def __init__(self, layers: Sequence[LayerWeights]) -> None:
        self.layers = list(layers)


def read_weights(path: str | os.PathLike[str]) -> Caffemodel | H5Weights:
    """Weights in Caffe's binary or HDF5 format, told by the content of the file, as Caffe does.

    Raises MissingFileError; FormatError saying what else the file is, or what is wrong with it.
    """
    buffer = map_file(path)
    return read_weights_h5(path) if h5py.is_hdf5(path) else parse_caffemodel(buffer, str(path))


def read_weights_h5(path: str | os.PathLike[str]) -> H5Weights:
    """Read a .caffemodel.h5. Raises as ``read_weights``."""
    with opened(path, "copy or download it again") as file:
        data, diff = file.get("data"), file.get("diff")
        if not isinstance(data, h5py.Group):
            raise FormatError(f"{path}: {_other_layout(file)}")
        met = Met()
        layers = list(_layers(data, met))
        diffs = dict(_layers(diff, met)) if isinstance(diff, h5py.Group) else {}
        return H5Weights([_read_layer(name, stored, diffs.get(name, {}), path) for name, stored in layers])


def write_weights_h5(path: str | os.PathLike[str], layers: Iterable[LayerWeights], diff: bool = False) -> None:
    """Write a .caffemodel.h5, all of it or nothing; ``diff`` stores the gradients too (zeros where there are none).

    A blob that is None is left out: it is shared with an earlier layer. Raises FormatError where two layers have one
    name, which the format cannot hold.
    """
    layers = list(layers)
    twice = [name for name, count in Counter(layer.name for layer in layers).items() if count > 1]
    if twice:
        advice = "HDF5 weights hold one of a name; rename it or write a .caffemodel"
        raise FormatError([f"{path}: more than one layer is named {name!r}, {advice}" for name in twice])
    with replacing(path) as draft, h5py.File(draft, "w") as file:
        groups = [file.create_group(name) for name in (("data", "diff") if diff else ("data",))]
        for layer in layers:
            targets = [group.require_group(layer.name) for group in groups]
            for index, blob in enumerate(layer.blobs):
                if blob is None:
                    continue
                gradient = np.zeros(blob.shape, blob.data.dtype) if diff and blob.diff is None else blob.diff
                for target, values in zip(targets, (blob.data, gradient), strict=False):
                    target.create_dataset(str(index), data=values)


def _layers(group: h5py.Group, met: Met, name: str = "") -> Iterator[tuple[str, dict[str, h5py.Dataset]]]:
    """The layers under a group with their datasets. A slash in a layer's name makes a group within a group."""
    inside = dict(members(group, met))
    groups = {key: member for key, member in inside.items() if isinstance(member, h5py.Group)}
    datasets = {key: member for key, member in inside.items() if isinstance(member, h5py.Dataset)}
    if name and (datasets or not groups):
        yield name, datasets
    for key, member in groups.items():
        yield from _layers(member, met, f"{name}/{key}" if name else key)


def _read_layer(
    name: str, stored: Mapping[str, h5py.Dataset], diffs: Mapping[str, h5py.Dataset], path: str | os.PathLike[str]
) -> LayerWeights:
    odd = [
        key
        for key, member in stored.items()
        if not (key.isdecimal() and int(key) < _MOST_BLOBS and member.dtype.kind in "fiu")
    ]
    if odd:
        raise FormatError(
            f"{path}: layer {name!r} has {', '.join(map(repr, odd))}, expected numbers in datasets 0, 1, ...; "
            "these are not Caffe's weights"
        )
    blobs: list[BlobArray | None] = [None] * (1 + max(map(int, stored), default=-1))
    for key, member in stored.items():
        diff = read_array(diffs[key]) if key in diffs else None
        blobs[int(key)] = BlobArray(read_array(member), diff, f"{path}: layer {name!r}, blob {key}")
    return LayerWeights(caffe_pb2.LayerParameter(name=name), blobs)


def _other_layout(file: h5py.File) -> str:
    names = {*file.keys(), *file.attrs.keys()}
    if isinstance(file.get("data"), h5py.Dataset):
        return "training data for an HDF5Data layer; give a .caffemodel or .caffemodel.h5"
    known = next((what for name, what in _OTHER_LAYOUTS if name in names), None)
    return known or (
        f"HDF5 without a group /data, so not Caffe's weights (it has {', '.join(sorted(names)) or 'nothing'}); "
        "give a .caffemodel or Caffe's .caffemodel.h5"
    )
