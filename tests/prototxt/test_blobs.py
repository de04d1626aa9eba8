import logging

import numpy as np
import pytest

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.errors import FormatError
from tests.prototxt.handmade import blob, message


def read(data):
    return BlobArray.from_wire(memoryview(data), where="layer 'conv1', blob 0")


def written(array, dialect="segnet"):
    return b"".join(array.pieces(dialect))


def test_values_are_a_view_on_the_buffer():
    data = blob(1, 2, 3, 4, 5, 6, shape=(2, 3))
    array = read(data)
    np.testing.assert_array_equal(array.data, [[1, 2, 3], [4, 5, 6]])
    assert array.data.dtype == np.float32
    assert np.shares_memory(array.data, np.frombuffer(data, np.uint8))
    assert array.diff is None
    with pytest.raises(ValueError, match="read-only"):
        array.data[0] = 1


@pytest.mark.parametrize("count", [1, 2, 100_000])
def test_unpacked_values(count):
    values = np.arange(count, dtype="<f4")
    records = np.empty(count, [("tag", "u1"), ("value", "<f4")])
    records["tag"], records["value"] = 5 << 3 | 5, values
    shape = message((7, message((1, b"\x08"))))  # between the values; the one behind counts
    array = read(
        records[:1].tobytes()
        + shape
        + records[1:].tobytes()
        + caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[count])).SerializeToString()
    )
    assert array.shape == (8, count)  # as protobuf merges a message that comes twice
    array = read(records.tobytes() + caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[count])).SerializeToString())
    np.testing.assert_array_equal(array.data, values)


def test_packed_and_unpacked_values_in_one_blob_follow_each_other():
    array = read(blob(1, 2, shape=(5,)) + message((5, 3.0), (5, 4.0)) + message((5, np.float32(5).tobytes())))
    np.testing.assert_array_equal(array.data, [1, 2, 3, 4, 5])


def test_unpacked_gradient_behind_unpacked_data():
    data = message((5, 1.0), (5, 2.0), (6, 3.0), (6, 4.0), (7, message((1, b"\x02"))))
    array = read(data)
    np.testing.assert_array_equal(array.data, [1, 2])
    np.testing.assert_array_equal(array.diff, [3, 4])


def test_doubles_stay_doubles_and_come_before_floats():
    proto = caffe_pb2.BlobProto(
        shape=caffe_pb2.BlobShape(dim=[2]), double_data=[1 / 3, 2], data=[9, 9], double_diff=[5, 6]
    )
    array = read(proto.SerializeToString())
    assert array.data.dtype == np.float64
    np.testing.assert_array_equal(array.data, [1 / 3, 2])
    np.testing.assert_array_equal(array.diff, [5, 6])


@pytest.mark.parametrize(
    ("legacy", "target", "expected"),
    [
        ((1, 1, 1, 5), (5,), True),
        ((1, 1, 4, 5), (4, 5), True),
        ((1, 1, 4, 5), (5,), False),
        ((2, 3, 4, 5), (2, 3, 4, 5), True),
        ((2, 3, 4, 5), (1, 2, 3, 4, 5), False),
        ((1, 1, 1, 1), (), True),
        ((5, 1, 1, 1), (5,), False),
    ],
)
def test_legacy_shapes_are_padded_on_the_left(legacy, target, expected):
    array = read(blob(*range(int(np.prod(legacy))), legacy=legacy))
    assert array.legacy
    assert array.data.shape == legacy
    assert array.shape_matches(target) is expected


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((5,), (5,), True),
        ((5,), (1, 5, 1, 1), False),
        ((1, 5, 1, 1), (5,), False),
        ((2, 3, 1, 1, 1), (2, 3, 1, 1, 1), True),
    ],
)
def test_other_shapes_match_exactly(shape, target, expected):
    assert read(blob(*range(int(np.prod(shape))), shape=shape)).shape_matches(target) is expected


def test_legacy_axes_come_before_shape():
    array = read(message((1, 1), (2, 1), (3, 2), (4, 3)) + blob(*range(6), shape=(6,)))
    assert (array.shape, array.legacy) == ((1, 1, 2, 3), True)


def test_an_axis_left_out_of_a_legacy_shape_is_zero():
    assert read(message((4, 3))).shape == (0, 0, 0, 3)


def test_without_any_shape_there_is_one_value():
    array = read(message((5, np.float32(7).tobytes())))
    assert (array.shape, array.count, float(array.data)) == ((), 1, 7)


@pytest.mark.parametrize("values", [5, 7])
def test_another_number_of_values_than_the_shape_asks_for(values):
    array = read(blob(*range(values), shape=(2, 3)))
    with pytest.raises(
        FormatError, match=rf"layer 'conv1', blob 0: {values} values stored, its shape \(2, 3\) asks for 6"
    ):
        _ = array.data


def test_missing_values_and_gradients_are_both_reported():
    array = read(blob(1, shape=(2,)) + message((6, 1.0)))
    assert [text.split(" stored")[0] for text in array.problems()] == [
        "layer 'conv1', blob 0: 1 values",
        "layer 'conv1', blob 0: 1 gradient values",
    ]


def test_a_negative_axis():
    array = read(message((1, 1), (2, 1), (3, 1), (4, -2)))
    assert "negative axis" in array.problems()[0]


@pytest.mark.parametrize(
    "data", [message((5, b"abc")), message((7, message((1, b"\x80")))), message((7, b"\x0a\x05")), b"\x2a\x10"]
)
def test_malformed(data):
    with pytest.raises(FormatError):
        read(data)


@pytest.mark.parametrize("shape", [(), (3,), (1, 4, 1, 1), (2, 1, 3, 2, 2), (0,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_as_protobuf_writes(shape, dtype):
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    wide = "double_" if dtype == np.float64 else ""
    proto = caffe_pb2.BlobProto(**{wide + "data": values.ravel(), wide + "diff": values.ravel() * 2})
    proto.shape.dim.extend(shape)
    if not shape:
        proto.ClearField("shape")
    assert written(BlobArray(values, values * 2), "bvlc") == proto.SerializeToString()


def test_other_types_become_float32():
    assert BlobArray(np.arange(3)).data.dtype == np.float32
    assert BlobArray([1.5]).data.dtype == np.float64


def test_strided_values_are_written_in_order():
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(read(written(BlobArray(values))).data, values)


def test_a_dialect_without_shape_gets_four_axes():
    array = BlobArray(np.arange(3, dtype=np.float32))
    assert written(array, "deconvnet") == blob(0, 1, 2, legacy=(1, 1, 1, 3))
    array = read(blob(0, 1, 2))
    assert written(array, "deconvnet") == blob(0, 1, 2, legacy=(1, 1, 1, 3))
    assert "5 axes" in BlobArray(np.zeros((1,) * 5)).cannot_be_written("deconvnet")[0]


def test_a_dialect_without_doubles_gets_floats_and_a_warning(caplog):
    array = BlobArray(np.array([1.0, 2.0]))
    with caplog.at_level(logging.WARNING):
        assert written(array, "segnet") == blob(1, 2)
    assert "float32" in caplog.text


def test_what_is_not_changed_is_written_as_it_was():
    data = message((9999, 1)) + message((5, 1.0), (5, 2.0)) + message((7, message((1, 2))))
    array = read(data)
    assert written(array) == data
    array.data = np.array([3, 4], np.float32)
    assert written(array) == blob(3, 4) + message((9999, 1))


def test_new_values_of_the_same_shape_keep_the_legacy_axes_and_the_gradient():
    array = read(blob(1, 2, legacy=(1, 1, 1, 2)) + message((6, np.float32([5, 6]).tobytes())))
    array.data = np.array([3, 4], np.float32).reshape(1, 1, 1, 2)
    assert array.legacy
    np.testing.assert_array_equal(array.diff.ravel(), [5, 6])
    array.data = np.array([3, 4, 5], np.float32)
    assert (array.legacy, array.shape, array.diff) == (False, (3,), None)


def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(FormatError, match=r"shape \(3,\).*\(2,\)"):
        BlobArray(np.zeros(2), np.zeros(3))
