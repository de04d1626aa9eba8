"""MemoryData: batches from arrays, given with ``set_input_arrays``."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import net

TEXT = """
layer { name: "m" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }
layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }
layer { name: "quiet" type: "Silence" bottom: "label" }
"""
DATA = np.arange(6 * 60, dtype=np.float32).reshape(6, 3, 4, 5) - 100
LABELS = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize("labels", [LABELS, LABELS.reshape(6, 1, 1, 1)])
def test_batches_go_round(labels):
    built = net(TEXT)
    assert (built.blobs["data"].shape, built.blobs["label"].shape) == ((2, 3, 4, 5), (2,))
    built.set_input_arrays(DATA, labels)
    for first in (0, 2, 4, 0):
        built.forward()
        assert np.array_equal(built.blobs["data"].data, DATA[first : first + 2].clip(0))
        assert built.blobs["label"].data.tolist() == [[[[first]]], [[[first + 1]]]]


def test_arrays_are_read_live_start_over_and_are_never_written_to():
    built, data = net(TEXT), DATA.copy()
    built.set_input_arrays(data, LABELS)
    data[2:4] = 7
    built.forward()
    built.forward()
    assert (built.blobs["data"].data == 7).all()
    assert (data[0] < 0).any()
    built.set_input_arrays(DATA, LABELS)
    built.forward()
    assert built.blobs["label"].data.ravel().tolist() == [0, 1]


def test_without_arrays():
    built = net(TEXT)
    with pytest.raises(NetError, match=r"layer 'm' \(MemoryData\): has no data yet; .*net\.set_input_arrays\(data, la"):
        built.forward()
    built.blobs["data"].data[...] = -1
    assert not built.forward(start="relu")["data"].any()
    assert not built(data=-torch.ones(1, 3, 4, 5), label=torch.ones(1))["data"].any()


def test_only_for_nets_with_such_a_layer():
    with pytest.raises(NetError, match="this net has none"):
        net('input: "x" input_shape { dim: 1 }').set_input_arrays(DATA, LABELS)


def test_transform_param_is_told_to_have_no_effect(caplog):
    built = net(TEXT.replace("memory_data_param", "transform_param { scale: 2 } memory_data_param"))
    built.set_input_arrays(DATA, LABELS)
    built.forward()
    assert np.array_equal(built.blobs["data"].data, DATA[:2].clip(0))
    assert "transform_param has no effect" in caplog.text


@pytest.mark.parametrize(
    ("data", "labels", "told"),
    [
        (DATA.astype(np.float64), LABELS, "data of type float64; expected C-contiguous float32"),
        (np.asfortranarray(DATA), LABELS, "data of type float32, not C-contiguous; expected"),
        (DATA, LABELS.astype(int), "labels of type int64; expected C-contiguous float32"),
        (DATA[:, :2], LABELS, r"data of shape \(6, 2, 4, 5\); expected \(n, 3, 4, 5\)"),
        (DATA[0], LABELS, r"data of shape \(3, 4, 5\); expected \(n, 3, 4, 5\)"),
        (DATA, np.zeros((6, 2), np.float32), r"labels of shape \(6, 2\); expected \(n, 1, 1, 1\) or \(n,\)"),
        (DATA, LABELS[:4], "6 items of data and 4 labels"),
        (DATA[:5], LABELS[:5], "5 items; expected a multiple of the batch_size 2"),
        (DATA[:0], LABELS[:0], "0 items; expected a multiple"),
    ],
)
def test_arrays_that_do_not_fit(data, labels, told):
    with pytest.raises(NetError, match=rf"layer 'm' \(MemoryData\): {told}"):
        net(TEXT).set_input_arrays(data, labels)


def test_sizes_must_be_written_or_given():
    text = TEXT.replace("height: 4", "")
    with pytest.raises(NetError, match=r"\(2, 3, 0, 5\); expected 1 or more"):
        net(text)
    built = net(text, caffe.TRAIN, input_shapes={"data": (3, 3, 4, 5)})
    built.set_input_arrays(DATA, LABELS)
    built.forward()
    assert built.blobs["label"].shape == (3, 1, 1, 1)
