"""Messages put together byte by byte, so that files of any dialect can be made without the code under test."""

import struct

import numpy as np


def number(value):
    encoded = b""
    while value > 0x7F:
        encoded, value = encoded + bytes([value & 0x7F | 0x80]), value >> 7
    return encoded + bytes([value])


def message(*fields):
    """Fields (number, value): int as varint, float as 32 bits, text or bytes with a length."""
    encoded = b""
    for key, value in fields:
        if isinstance(value, int):
            encoded += number(key << 3) + number(value & (1 << 64) - 1)
        elif isinstance(value, float):
            encoded += number(key << 3 | 5) + struct.pack("<f", value)
        else:
            value = value.encode() if isinstance(value, str) else value
            encoded += number(key << 3 | 2) + number(len(value)) + value
    return encoded


def blob(*values, shape=None, legacy=None):
    """A BlobProto as Caffe writes it: data, then shape; or the four axes, then data."""
    axes = [(key, dim) for key, dim in enumerate(legacy or (), 1)]
    dims = b"".join(number(dim) for dim in (shape or (len(values),)))
    packed = np.array(values, "<f4").tobytes()
    return message(*axes, (5, packed), *([] if legacy else [(7, message((1, dims)))]))


def layer(name, kind, *fields):
    """A field `layer` of a net: a LayerParameter, of which `fields` are given by number."""
    return message((100, message((1, name), (2, kind), *fields)))


def v1_layer(name, kind, *fields):
    """A field `layers` of a net: a V1LayerParameter with the number of its type."""
    return message((2, message(*sorted([(4, name), (5, kind), *fields], key=lambda field: field[0]))))


def net(*layers):
    return message((1, "net")) + b"".join(layers)
