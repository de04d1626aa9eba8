import pytest

from prototxt import caffe_pb2
from prototxt.wire import BrokenWire, fields, fits, length_field, number_field, read_varint, varint, walk


def view(data):
    return memoryview(bytes(data))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31 - 1, 2**32, 2**63, 2**64 - 1])
def test_varint_there_and_back(value):
    data = varint(value)
    assert read_varint(view(data), 0, len(data)) == (value, len(data))


def test_fields_of_a_message_written_by_protobuf():
    message = caffe_pb2.LayerParameter(name="conv1", loss_weight=[0.5], phase=caffe_pb2.TEST)
    message.param.add(lr_mult=2)
    data = message.SerializeToString()
    found = [(f.number, f.wire_type, data[f.body : f.end]) for f in fields(view(data))]
    assert found == [(1, 2, b"conv1"), (5, 5, b"\0\0\0?"), (6, 2, b"\x1d\0\0\0@"), (10, 0, b"\x01")]


def test_fields_lie_end_to_end():
    data = caffe_pb2.NetParameter(name="n", input=["a", "b"]).SerializeToString()
    found, error = walk(view(data))
    assert error is None
    assert [f.start for f in found] == [0, *(f.end for f in found[:-1])]
    assert found[-1].end == len(data)


def test_a_group_is_one_field():
    data = b"\x0b\x10\x05\x1b\x1c\x0c\x10\x01"  # a group in a group, then field 2
    assert [(f.number, f.start, f.end) for f in fields(view(data))] == [(1, 0, 6), (2, 6, 8)]


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x08", b"\x08\xff", b"\x12\x05abc", b"\x15\0\0", b"\x11\0", b"\x0b\x10\x01"]
)
def test_missing_bytes(data):
    with pytest.raises(BrokenWire) as caught:
        list(fields(view(data)))
    assert caught.value.truncated
    assert caught.value.expected > caught.value.found


@pytest.mark.parametrize("data", [b"\x00", b"\x0c", b"\x0e", b"\x0f", b"\x08" + b"\xff" * 11])
def test_wrong_bytes(data):
    with pytest.raises(BrokenWire) as caught:
        list(fields(view(data)))
    assert not caught.value.truncated


def test_walk_keeps_what_came_before_an_error():
    found, error = walk(view(b"\x08\x01\x12\x05abc"))
    assert [f.number for f in found] == [1]
    assert (error.offset, error.expected, error.found) == (4, 5, 3)


def test_writing_is_what_protobuf_writes():
    shape = caffe_pb2.BlobShape(dim=[3, 400])
    blob = caffe_pb2.BlobProto(num=-1, shape=shape)
    written = number_field(1, -1) + b"".join(length_field(7, [shape.SerializeToString()]))
    assert written == blob.SerializeToString()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("loss_weight", b"\x2d\0\0\0\0", True),
        ("loss_weight", b"\x2a\x04\0\0\0\0", True),  # packed
        ("loss_weight", b"\x28\x01", False),
        ("phase", b"\x50\x01", True),
        ("phase", b"\x52\x01\x01", False),
        ("name", b"\x0a\x01a", True),
    ],
)
def test_fits(name, data, expected):
    declared = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[name]
    assert fits(next(fields(view(data))), declared) is expected
