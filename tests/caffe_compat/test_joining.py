"""Concat, Slice, Eltwise and SpatialProduct."""

import pickle

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net

NAN, INF = np.nan, np.inf


def joined(type_name, param, *shapes, tops=("y",), **options):
    names = "abcd"[: len(shapes)]
    words = [f'bottom: "{n}"' for n in names] + [f'top: "{t}"' for t in tops]
    text = f'force_backward: true layer {{ name: "l" type: "{type_name}" {" ".join(words)} {param} }}'
    return net(inputs(**dict(zip(names, shapes, strict=True))) + text, **options)


def eltwise(param, *values, diff=None):
    """The top, and the gradients of the bottoms for the diff of the top."""
    values = [np.array(v, np.float32) for v in values]
    built = joined("Eltwise", f"eltwise_param {{ {param} }}", *(v.shape for v in values))
    y = built.forward(**dict(zip("abcd", values, strict=False)))["y"].tolist()
    built.blobs["y"].diff[...] = np.ones(len(y)) if diff is None else diff
    built.backward()
    return y, [built.blobs[name].diff.tolist() for name in "abcd"[: len(values)]]


@pytest.mark.parametrize(
    ("param", "shapes", "want"),
    [
        ("", [(2, 3, 4), (2, 5, 4)], (2, 8, 4)),
        ("axis: -1", [(2, 3, 4), (2, 3, 1), (2, 3, 2)], (2, 3, 7)),
        ("concat_dim: 0", [(2, 3), (4, 3)], (6, 3)),
        ("axis: 0", [(2,), (1,)], (3,)),
    ],
)
def test_concat_shapes(param, shapes, want):
    built = joined("Concat", f"concat_param {{ {param} }}", *shapes)
    assert tuple(built.blobs["y"].shape) == want
    built.forward()
    assert built.blobs["y"].data.shape == want


def test_concat_and_its_gradient():
    built = joined("Concat", "", (1, 1, 2), (1, 2, 2))
    built.forward(a=np.array([[[1, 2]]]), b=np.array([[[3, 4], [5, 6]]]))
    assert built.blobs["y"].data.tolist() == [[[1, 2], [3, 4], [5, 6]]]
    built.blobs["y"].diff[...] = [[[10, 20], [30, 40], [50, 60]]]
    built.backward()
    assert built.blobs["a"].diff.tolist() == [[[10, 20]]] and built.blobs["b"].diff.tolist() == [[[30, 40], [50, 60]]]


@pytest.mark.parametrize(
    ("param", "shapes", "said"),
    [
        ("axis: 1 concat_dim: 1", [(1, 2), (1, 2)], "both `axis` and `concat_dim`"),
        ("", [(1, 2, 3), (1, 2, 4)], "alike on every axis but 1"),
        ("", [(1, 2, 3), (1, 2)], "alike on every axis but 1"),
        ("axis: 2", [(1, 2), (1, 2)], "axis 2 is out of range"),
        ("concat_dim: 4", [(1, 2), (1, 2)], "axis 4 is out of range"),
    ],
)
def test_concat_refuses(param, shapes, said):
    with pytest.raises(NetError, match=said):
        joined("Concat", f"concat_param {{ {param} }}", *shapes)


@pytest.mark.parametrize("type_name", ["Concat", "Slice"])
def test_one_alone_is_enough_for_newer_caffe_only(type_name):
    built = joined(type_name, "", (1, 2), dialect="bvlc")
    assert built.forward(a=np.array([[1, 2]]))["y"].tolist() == [[1, 2]]
    with pytest.raises(NetError, match="expected 2 or more"):
        joined(type_name, "", (1, 2), dialect="segnet")


@pytest.mark.parametrize(
    ("param", "shape", "tops", "sizes"),
    [
        ("", (1, 6), "xyz", [2, 2, 2]),
        ("slice_point: 1 slice_point: 4", (1, 6), "xyz", [1, 3, 2]),
        ("axis: -2 slice_point: 3", (4, 6), "xy", [3, 1]),
        ("slice_dim: 0", (4, 6), "xy", [2, 2]),
    ],
)
def test_slice_and_its_gradient(param, shape, tops, sizes):
    built = joined("Slice", f"slice_param {{ {param} }}", shape, tops=tops)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    axis = 1 if shape[0] == 1 else 0
    parts = built.forward(a=x)
    assert [parts[top].shape[axis] for top in tops] == sizes
    assert np.array_equal(np.concatenate([parts[top] for top in tops], axis), x)
    for top in tops:
        built.blobs[top].diff[...] = 2 * parts[top]
    built.backward()
    assert np.array_equal(built.blobs["a"].diff, 2 * x)


def test_slice_hands_out_copies():
    built = joined("Slice", "", (1, 2), tops="xy")
    built.forward(a=np.array([[1, 2]]))["x"][...] = 9
    assert built.blobs["a"].data.tolist() == [[1, 2]]


def test_slice_of_the_batch_follows_its_size():
    built = joined("Slice", "slice_param { axis: 0 }", (2, 3), tops="xy")
    assert built(torch.ones(4, 3))["x"].shape == (2, 3)
    with pytest.raises(NetError, match="3 values on axis 0 for 2 tops"):
        built(torch.ones(3, 3))


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "5 values on axis 1 for 3 tops"),
        ("slice_point: 2", "1 times `slice_point` for 3 tops; expected 2"),
        ("slice_point: 3 slice_point: 2", "rising points from 1 to 4"),
        ("slice_point: 2 slice_point: 2", "rising points"),
        ("slice_point: 2 slice_point: 5", "rising points"),
        ("slice_point: 0 slice_point: 2", "rising points"),
        ("axis: 1 slice_dim: 1", "both `axis` and `slice_dim`"),
        ("slice_dim: 2", "axis 2 is out of range"),
    ],
)
def test_slice_refuses(param, said):
    with pytest.raises(NetError, match=said):
        joined("Slice", f"slice_param {{ {param} }}", (1, 5), tops="xyz")


def test_sum():
    assert eltwise("", [1, 2], [3, 4], [5, 6], diff=[1, 10]) == ([9, 12], [[1, 10]] * 3)
    assert eltwise("coeff: 2 coeff: -0.5", [1, 2], [4, 8]) == ([0, 0], [[2, 2], [-0.5, -0.5]])
    assert eltwise("coeff: 1 coeff: 0", [1, 2], [4, 8]) == ([1, 2], [[1, 1], [0, 0]])


def test_product_and_its_two_gradients():
    y, grads = eltwise("operation: PROD", [2, 0], [3, 5], [4, 6], diff=[1, 10])
    assert y == [24, 0] and grads == [[12, 300], [8, 0], [6, 0]]
    y, grads = eltwise("operation: PROD stable_prod_grad: false", [2, 0], [3, 5], [4, 6], diff=[1, 10])
    assert y == [24, 0] and grads[1:] == [[8, 0], [6, 0]]
    assert grads[0][0] == 12 and np.isnan(grads[0][1])  # 0 / 0


def test_largest_and_who_wins_a_tie():
    y, grads = eltwise("operation: MAX", [5, 1, 1, 3, 0], [2, 1, 4, 3, 1], [1, 1, 4, 2, 2])
    assert y == [5, 1, 4, 3, 2]
    assert grads == [[1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_largest_of_what_is_no_number():
    y, grads = eltwise("operation: MAX", [NAN, 1, -INF], [1, NAN, -INF], [0, 0, NAN])
    assert y[0] == 1 and np.isnan(y[1]) and y[2] == -INF
    assert grads == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    "param", ["coeff: 2 coeff: 3", "operation: PROD", "operation: PROD stable_prod_grad: false", "operation: MAX"]
)
def test_gradients_of_eltwise(param):
    layer = joined("Eltwise", f"eltwise_param {{ {param} }}", (2, 3), (2, 3)).layer["l"]
    torch.manual_seed(0)
    values = [torch.rand(2, 3, dtype=torch.float64, requires_grad=True) for _ in "ab"]
    assert torch.autograd.gradcheck(pickle.loads(pickle.dumps(layer)), values)


@pytest.mark.parametrize(
    ("param", "shapes", "said"),
    [
        ("", [(2, 3), (3, 2)], "expected equal ones"),
        ("", [(2, 3)], "1 bottoms; expected 2 or more"),
        ("coeff: 1", [(2,), (2,)], "1 times `coeff` for 2 bottoms"),
        ("operation: PROD coeff: 1 coeff: 1", [(2,), (2,)], "`coeff` with `operation: PROD`"),
    ],
)
def test_eltwise_refuses(param, shapes, said):
    with pytest.raises(NetError, match=said):
        joined("Eltwise", f"eltwise_param {{ {param} }}", *shapes)


def test_a_sum_over_its_own_bottom():
    with pytest.raises(NetError, match="written over its own bottom 'a'"):
        joined("Eltwise", "", (2,), (2,), tops="a")


def test_every_channel_times_one_plane():
    text = inputs(x=(1, 2, 1, 2), plane=(1, 1, 1, 2))
    text += 'layer { name: "l" type: "SpatialProduct" bottom: "x" bottom: "plane" top: "y" }'
    built = net(f"force_backward: true {text}")
    x = np.array([1.0, 2, 3, 4]).reshape(1, 2, 1, 2)
    assert built.forward(x=x, plane=np.array([[[[2.0, 3]]]]))["y"].ravel().tolist() == [2, 6, 6, 12]
    diffs = built.backward(y=np.ones((1, 2, 1, 2)))
    assert diffs["x"].ravel().tolist() == [2, 3, 2, 3] and diffs["plane"].ravel().tolist() == [4, 6]
    with pytest.raises(NetError, match=r"expected .* and \(N, 1, H, W\)"):
        net(text.replace("dim: 1 dim: 1 dim: 1 dim: 2", "dim: 1 dim: 2 dim: 1 dim: 2"))
