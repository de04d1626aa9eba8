"""Weights with their net in memory, and how Caffe writes them: in any dialect, keeping what a file had.

What was read from a file and not changed is written as the bytes it was. Where only arrays are replaced, everything
around them stays. Where a layer's message changes, or the list of layers, the whole net is written anew: in the
current generation, or in V1 for a dialect that knows nothing newer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.dialects import WIRE, check_dialect
from prototxt.downgrade import to_v1
from prototxt.errors import FormatError
from prototxt.files import replacing
from prototxt.renumber import OURS, rewrite
from prototxt.wire import Buffer, Field, Piece, fields

log = logging.getLogger(__name__)

_NET = caffe_pb2.NetParameter.DESCRIPTOR
_V1_NUMBER = _NET.fields_by_name["layers"].number
_V2_NUMBER = _NET.fields_by_name["layer"].number


class LayerWeights:
    """A layer as a weights file has it: ``message``, a LayerParameter without blobs, and ``blobs``.

    ``message`` has the numbers of caffe.proto and is in the current generation, whatever the file's is.
    """

    def __init__(self, message: caffe_pb2.LayerParameter, blobs: Sequence[BlobArray | None] = ()) -> None:
        self.message = message
        self.blobs = list(blobs)
        for index, blob in enumerate(self.blobs):
            if blob is not None:
                blob.where = f"layer {message.name!r}, blob {index}"

    def __repr__(self) -> str:
        return f"<{self.type or 'layer'} {self.name!r}: {len(self.blobs)} blobs>"

    @property
    def name(self) -> str:
        """The layer's name, by which Caffe matches weights to a net; need not be unique."""
        return self.message.name

    @property
    def type(self) -> str:
        """The layer's type as the current generation calls it, such as ``Convolution``; empty if unknown."""
        return self.message.type


class Segment(NamedTuple):
    """One field of the NetParameter in the file, as it stands there."""

    field: Field
    label: str
    dialect: str
    blobs: tuple[BlobArray, ...] = ()


class Source(NamedTuple):
    """The file that a Caffemodel was read from, and what it gave; to tell what has changed since."""

    buffer: Buffer
    segments: Sequence[Segment]
    header: bytes
    layers: Sequence[tuple[LayerWeights, bytes, tuple[BlobArray, ...]]]

    @classmethod
    def of(
        cls,
        buffer: Buffer,
        segments: Sequence[Segment],
        header: caffe_pb2.NetParameter,
        layers: Sequence[LayerWeights],
    ) -> Source:
        """The source of what has just been read."""
        read = [(layer, _snapshot(layer.message), tuple(layer.blobs)) for layer in layers]
        return cls(buffer, segments, _snapshot(header), read)


#: What is written for a blob.
_Emit = Callable[[BlobArray, str], list[Piece]]


class Caffemodel:
    """The net and the weights of a binary weights file.

    ``header`` is the NetParameter without layers, ``layers`` are the layers in the order of the file, ``dialect``
    is the one that wrote it, as far as it can be told, ``generation`` is ``V0``, ``V1`` or ``V2``.
    """

    def __init__(
        self,
        header: caffe_pb2.NetParameter,
        layers: Sequence[LayerWeights],
        dialect: str,
        generation: str = "V2",
        source: Source | None = None,
    ) -> None:
        self.header = header
        self.layers = list(layers)
        self.dialect = dialect
        self.generation = generation
        self._source = source

    def __repr__(self) -> str:
        return f"<{self.generation} weights in {self.dialect}: {len(self.layers)} layers>"

    def net(self) -> caffe_pb2.NetParameter:
        """A new NetParameter of the current generation, without blobs."""
        net = caffe_pb2.NetParameter()
        net.CopyFrom(self.header)
        net.layer.extend(layer.message for layer in self.layers)
        return net

    def write(self, path: str | os.PathLike[str], dialect: str | None = None, drop_unknown: bool = False) -> None:
        """Write the file, all of it or nothing; ``dialect`` renumbers the fields for another fork of Caffe.

        Raises FormatError naming every field that the dialect does not know. With ``drop_unknown`` these are left
        out and logged instead: Caffe itself takes names and blobs from a weights file, nothing else.
        """
        self._check(dialect, drop_unknown)
        with replacing(path) as draft, open(draft, "wb") as file:
            file.writelines(self._pieces(dialect, BlobArray.pieces, []))

    def to_bytes(self, dialect: str | None = None, drop_unknown: bool = False) -> bytes:
        """What ``write`` writes."""
        self._check(dialect, drop_unknown)
        return b"".join(self._pieces(dialect, BlobArray.pieces, []))

    def _check(self, dialect: str | None, drop_unknown: bool) -> None:
        target = check_dialect(dialect or self.dialect)
        problems: list[str] = []
        lost: list[str] = []

        def check(blob: BlobArray, written_in: str) -> list[Piece]:
            problems.extend(blob.cannot_be_written(written_in))
            return []

        for _ in self._pieces(dialect, check, lost):
            pass
        if lost and drop_unknown:
            log.warning("left out, because %s does not know it: %s", target, "; ".join(lost))
        elif lost:
            problems += [f"{field}: {target} does not know it; write another dialect or drop_unknown" for field in lost]
        if problems:
            raise FormatError(problems)

    def _pieces(self, dialect: str | None, emit: _Emit, lost: list[str]) -> Iterator[Piece]:
        """The file piece by piece; what the dialect does not know is named in ``lost``."""
        for buffer, (field, label, written_in, blobs) in self._segments(dialect or self.dialect, lost):
            target = dialect or (self.dialect if written_in == OURS else written_in)
            if target == written_in and not any(blob.changed for blob in blobs):
                yield buffer[field.start : field.end]
                continue
            in_order = iter(blobs)
            here: list[str] = []
            yield from rewrite(
                buffer,
                field.start,
                field.end,
                _NET,
                written_in,
                target,
                lambda *_, to=target, order=in_order: emit(next(order), to),
                here,
            )
            lost.extend(f"{label}: {name.removeprefix('layer.').removeprefix('layers.')}" for name in here)

    def _segments(self, target: str, lost: list[str]) -> Iterator[tuple[Buffer, Segment]]:
        """The fields of the NetParameter: those of the file where nothing but values changed, else made anew."""
        current = _V2_NUMBER in WIRE[target]["NetParameter"]
        if self._as_read() and (current or self.generation != "V2"):
            yield from ((self._source.buffer, segment) for segment in self._source.segments)
            return
        header = memoryview(self.header.SerializeToString())
        number = _V2_NUMBER if current else _V1_NUMBER
        in_header = [Segment(field, "net", OURS) for field in fields(header)]
        yield from ((header, segment) for segment in in_header if segment.field.number < number)
        for index, layer in enumerate(self.layers):
            label = f"layer {index} {layer.name!r}"
            message = caffe_pb2.LayerParameter()
            message.CopyFrom(layer.message)
            del message.blobs[:]
            message.blobs.extend(caffe_pb2.BlobProto() for _ in layer.blobs)  # their places, to be filled
            net = caffe_pb2.NetParameter()
            if current:
                net.layer.append(message)
            else:
                here: list[str] = []
                net.layers.append(to_v1(message, here))
                lost.extend(f"{label}: {name}" for name in here)
            data = memoryview(net.SerializeToString())
            yield from ((data, Segment(field, label, OURS, tuple(layer.blobs))) for field in fields(data))
        yield from ((header, segment) for segment in in_header if segment.field.number > number)

    def _as_read(self) -> bool:
        """Whether everything but values is what the file has."""
        source = self._source
        return (
            source is not None
            and _snapshot(self.header) == source.header
            and len(self.layers) == len(source.layers)
            and all(
                layer is read and tuple(layer.blobs) == blobs and _snapshot(layer.message) == message
                for layer, (read, message, blobs) in zip(self.layers, source.layers, strict=True)
            )
        )


def _snapshot(message: caffe_pb2.NetParameter | caffe_pb2.LayerParameter) -> bytes:
    return message.SerializeToString(deterministic=True)
