"""Caffe's binary weights files: read, of any dialect and generation, as views on the file, and built anew."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.dialects import check_dialect
from prototxt.errors import FormatError
from prototxt.files import map_file, replacing
from prototxt.recognise import SINGLE_BLOB, another_message, explain, layer_label, layer_message
from prototxt.renumber import OURS, rewrite
from prototxt.upgrade import to_current
from prototxt.weights import Caffemodel, LayerWeights, Segment, Source
from prototxt.wire import BrokenWire, Buffer, Field, walk
from prototxt.wire_evidence import Evidence, best, layer_evidence, net_evidence

__all__ = [
    "Caffemodel",
    "LayerWeights",
    "new_caffemodel",
    "parse_caffemodel",
    "read_blobproto",
    "read_caffemodel",
    "write_blobproto",
]

log = logging.getLogger(__name__)

_NET = caffe_pb2.NetParameter.DESCRIPTOR
_V1_LAYER = caffe_pb2.V1LayerParameter.DESCRIPTOR


class _Part(NamedTuple):
    """One field of the NetParameter in the file, and what dialects it speaks for."""

    field: Field
    label: str
    evidence: tuple[Evidence, ...] = ()


def read_caffemodel(path: str | os.PathLike[str]) -> Caffemodel:
    """Read a binary weights file of any dialect and generation; arrays stay in the file until they are used.

    Raises MissingFileError; FormatError saying what else the file is, or all that is wrong with it.
    """
    return parse_caffemodel(map_file(path), str(path))


def parse_caffemodel(data: bytes | Buffer, name: str = "weights") -> Caffemodel:
    """The same for the bytes of a file; ``name`` stands for the file in messages."""
    buffer = memoryview(data)
    problems: list[str] = []
    parts = _parts(buffer, name, problems)
    dialect = best(chain.from_iterable(part.evidence for part in parts))
    net = caffe_pb2.NetParameter()
    blobs: list[BlobArray] = []
    segments = []
    for part in parts:
        written_in = dialect if all(dialect in able for able in part.evidence) else best(part.evidence)
        first = len(blobs)
        try:
            net.MergeFromString(_without_blobs(buffer, part.field, written_in, blobs))
        except (FormatError, DecodeError) as error:
            problems.append(f"{part.label} is damaged: {error}; copy or download the file again")
        segments.append(Segment(part.field, part.label, written_in, tuple(blobs[first:])))
    if problems:
        raise FormatError([f"{name}: {problem}" for problem in dict.fromkeys(problems)])
    generation = _generation(net, name)
    layers = _with_blobs(_current(net, name), blobs)
    if problems := [problem for layer in layers for blob in layer.blobs for problem in blob.problems()]:
        raise FormatError([f"{name}: {problem}" for problem in problems])
    header = caffe_pb2.NetParameter()
    header.CopyFrom(net)
    del header.layer[:], header.layers[:]
    source = Source.of(buffer, segments, header, layers)
    return Caffemodel(header, layers, dialect, generation, source)


def new_caffemodel(
    net: caffe_pb2.NetParameter,
    blobs: Mapping[int, Sequence[np.ndarray | BlobArray]],
    dialect: str = "segnet",
) -> Caffemodel:
    """Weights made from a net of the current generation and the blobs of its layers, by the layer's index.

    Written, they are the bytes that Caffe itself would write for the same net.
    """
    header = caffe_pb2.NetParameter()
    header.CopyFrom(net)
    del header.layer[:]
    layers = []
    for index, layer in enumerate(net.layer):
        message = caffe_pb2.LayerParameter()
        message.CopyFrom(layer)
        del message.blobs[:]
        own = [blob if isinstance(blob, BlobArray) else BlobArray(blob) for blob in blobs.get(index, ())]
        layers.append(LayerWeights(message, own))
    return Caffemodel(header, layers, check_dialect(dialect))


def read_blobproto(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in a file with one BlobProto, such as a mean image (1, C, H, W). Raises as ``read_caffemodel``."""
    buffer = map_file(path)
    found, broken = walk(buffer)
    wanted = "a .binaryproto, as compute_image_mean writes it"
    kind = another_message(found)
    if not kind and any(layer_message(field) for field in found):
        raise FormatError(f"{path}: a net with layers, not a single blob; give {wanted}")
    if broken or kind != SINGLE_BLOB:
        raise FormatError(f"{path}: {explain(buffer, found, broken, wanted)}") from broken
    try:
        return BlobArray.from_wire(buffer, where="the blob").data
    except FormatError as error:
        raise FormatError(f"{path}: {error}; give {wanted}") from error


def write_blobproto(path: str | os.PathLike[str], values: np.ndarray, dialect: str = "segnet") -> None:
    """Write one array as a file, with the four legacy axes where they can hold it, as Caffe's tools write means."""
    blob = BlobArray(values)
    blob.legacy = len(blob.shape) == 4
    with replacing(path) as draft, open(draft, "wb") as file:
        file.writelines(blob.pieces(dialect))


def _parts(buffer: Buffer, name: str, problems: list[str]) -> list[_Part]:
    """The fields of the net. Raises FormatError if this is no net with layers; damaged layers go to ``problems``."""
    found, broken = walk(buffer)
    layers = [field for field in found if layer_message(field)]
    if broken or not layers or another_message(found):
        raise FormatError(f"{name}: {explain(buffer, found, broken)}") from broken
    parts = []
    index = 0
    for field in found:
        message = layer_message(field)
        label = layer_label(buffer, field.body, field.end, message, index) if message else "net"
        evidence = tuple(net_evidence(field))
        if message:
            index += 1
            try:
                evidence += tuple(layer_evidence(buffer, field.body, field.end, message))
            except BrokenWire as error:
                problems.append(f"{label} is damaged: {error}; copy or download the file again")
        parts.append(_Part(field, label, evidence))
    return parts


def _without_blobs(buffer: Buffer, field: Field, dialect: str, blobs: list[BlobArray]) -> bytes:
    """A field of the net in our numbers; each blob goes to ``blobs``, its place there stands in its stead."""

    def take(data: Buffer, start: int, end: int) -> list[bytes]:
        blobs.append(BlobArray.from_wire(data, start, end))
        place = caffe_pb2.BlobShape(dim=[len(blobs) - 1])
        return [caffe_pb2.BlobProto(shape=place).SerializeToString()]

    return b"".join(rewrite(buffer, field.start, field.end, _NET, dialect, OURS, take, []))


def _generation(net: caffe_pb2.NetParameter, name: str) -> str:
    if not net.layers:
        return "V2"
    if net.layer:
        # Caffe, UpgradeV1Net: an older generation in the file decides.
        log.warning("%s: %d layers of the current generation are ignored beside those of V1", name, len(net.layer))
        del net.layer[:]
    return "V0" if any(layer.HasField("layer") for layer in net.layers) else "V1"


def _current(net: caffe_pb2.NetParameter, name: str) -> caffe_pb2.NetParameter:
    try:
        return to_current(net)
    except FormatError as error:
        raise FormatError([f"{name}: {problem}" for problem in error.problems]) from error


def _with_blobs(net: caffe_pb2.NetParameter, blobs: Sequence[BlobArray]) -> list[LayerWeights]:
    layers = []
    for layer in net.layer:
        message = caffe_pb2.LayerParameter()
        message.CopyFrom(layer)
        del message.blobs[:]
        layers.append(LayerWeights(message, [blobs[place.shape.dim[0]] for place in layer.blobs]))
    return layers
