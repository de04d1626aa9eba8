"""DummyData: shapes, fillers, and what stays."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import net


def dummy(param, tops="ab", **options):
    lines = " ".join(f'top: "{top}"' for top in tops)
    return net(f'layer {{ name: "d" type: "DummyData" {lines} dummy_data_param {{ {param} }} }}', **options)


def arrays(built):
    return [blob.data.copy() for blob in built.blobs.values()]


@pytest.mark.parametrize(
    ("param", "shapes"),
    [
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("shape { dim: 2 dim: 3 } shape { dim: 4 }", [(2, 3), (4,)]),
        ("num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5)] * 2),
        ("num: 2 num: 7 channels: 3 height: 4 height: 1 width: 5", [(2, 3, 4, 5), (7, 3, 1, 5)]),
    ],
)
def test_shapes(param, shapes):
    assert [blob.shape for blob in dummy(param).blobs.values()] == shapes


def test_shapes_given_for_the_net():
    built = dummy("shape { dim: 2 dim: 3 dim: 4 dim: 4 }", input_shapes={"a": (1, 1)}, image_size=(8, 9))
    assert [blob.shape for blob in built.blobs.values()] == [(1, 1), (2, 3, 8, 9)]


def test_no_filler_is_zero():
    built = dummy("shape { dim: 2 }")
    built.forward()
    assert not np.concatenate(arrays(built)).any()


def test_constants_are_there_from_the_start_and_stay_as_written_by_hand():
    built = dummy('shape { dim: 2 } data_filler { value: 7 } data_filler { type: "uniform" min: 1 max: 2 }')
    assert built.blobs["a"].data.tolist() == [7, 7]
    assert not built.blobs["b"].data.any()
    built.blobs["a"].data[0] = 3
    built.forward()
    assert built.blobs["a"].data.tolist() == [3, 7]
    assert (built.blobs["b"].data >= 1).all()
    built.blobs["a"].reshape(3)
    built.forward()
    assert built.blobs["a"].data.tolist() == [7, 7, 7]


def test_one_random_filler_draws_for_each_top_and_each_pass():
    built = dummy('shape { dim: 50 } data_filler { type: "gaussian" mean: 5 std: 0.1 }')
    built.forward()
    first, second = arrays(built)
    built.forward()
    third, fourth = arrays(built)
    assert all(4.5 < value.mean() < 5.5 for value in (first, second, third, fourth))
    assert len({value.tobytes() for value in (first, second, third, fourth)}) == 4


def test_the_seed_decides():
    built, runs = dummy('shape { dim: 5 } data_filler { type: "uniform" }'), []
    for _ in range(2):
        caffe.set_random_seed(4)
        built.forward()
        runs.append(np.concatenate(arrays(built)))
    assert np.array_equal(*runs)


def test_labels_of_a_loss_and_both_faces():
    built = net(
        """
layer { name: "d" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 } shape { dim: 2 } data_filler { value: 1 } data_filler { value: 2 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" }""",
        caffe.TRAIN,
    )
    assert np.isclose(built.forward()["loss"], np.log(3))
    built.blobs["data"].data[:, 2] = 30
    assert built.forward()["loss"] < 1e-6
    scores = torch.ones(2, 3, requires_grad=True)
    built(data=scores, label=torch.zeros(2))["loss"].backward()
    assert torch.allclose(scores.grad[0], torch.tensor([-1 / 3, 1 / 6, 1 / 6]))


def test_without_tensors_given_the_module_fills_too():
    built = net(
        'input: "x" input_shape { dim: 2 } layer { name: "d" type: "DummyData" top: "c" dummy_data_param { '
        'shape { dim: 2 } data_filler { value: 3 } } } layer { name: "s" type: "Eltwise" bottom: "x" bottom: "c" '
        'top: "y" }'
    )
    assert built(x=torch.tensor([1.0, 2.0]))["y"].tolist() == [4, 5]
    assert built.double()(x=torch.tensor([1.0, 2.0], dtype=torch.float64))["y"].dtype == torch.float64


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("", "0 times `shape` for 3 tops; expected 1 for all or 3"),
        ("shape { } shape { }", "2 times `shape` for 3 tops; expected 1 for all or 3"),
        ("shape { dim: -1 }", "expected no negative ones"),
        ("shape { dim: 1 } num: 1", "both `shape` and num, channels, height, width"),
        ("num: 1 channels: 1 height: 1 height: 1 width: 1", "2 times `height` for 3 tops"),
        ("num: 1 channels: 1 height: 1", "0 times `width` for 3 tops"),
        ("shape { dim: 1 } data_filler { } data_filler { }", "2 times `data_filler` for 3 tops; expected none, 1 for"),
        ('shape { dim: 1 } data_filler { type: "gausian" }', "unknown filler type 'gausian'; did you mean 'gaussian'"),
    ],
)
def test_settings_that_do_not_fit(param, told):
    with pytest.raises(NetError, match=rf"layer 'd' \(DummyData\): .*{told}"):
        dummy(param, "abc")
