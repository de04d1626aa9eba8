"""BatchReindex and Filter."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net

REINDEX = """force_backward: true
layer { name: "l" type: "BatchReindex" bottom: "x" bottom: "i" top: "y" }"""
FILTER = """force_backward: true
layer { name: "l" type: "Filter" bottom: "x" bottom: "z" bottom: "s" top: "y" top: "w" }"""
X = np.arange(6).reshape(3, 2)


def test_items_by_index_and_their_gradient():
    built = net(inputs(x=(3, 2), i=(4,)) + REINDEX, dialect="bvlc")
    assert built.forward(x=X, i=np.array([2, 0, 2, 1.9]))["y"].tolist() == [[4, 5], [0, 1], [4, 5], [2, 3]]
    built.blobs["y"].diff[...] = [[1, 1], [10, 10], [100, 100], [5, 6]]
    built.backward()
    assert built.blobs["x"].diff.tolist() == [[10, 10], [5, 6], [101, 101]]


@pytest.mark.parametrize("indices", [[3], [-1]])
def test_index_outside_the_batch(indices):
    built = net(inputs(x=(3, 2), i=(1,)) + REINDEX)
    with pytest.raises(NetError, match="expected 0 to 2 for 3 items"):
        built.blobs["i"].data[...] = indices
        built.forward()


def test_indices_stand_on_one_axis():
    with pytest.raises(NetError, match=r"blob of indices has the shape \(4, 1\)"):
        net(inputs(x=(3, 2), i=(4, 1)) + REINDEX)


def test_items_by_selector_and_their_gradient():
    built = net(inputs(x=(3, 2), z=(3,), s=(3, 1, 1, 1)) + FILTER)
    assert [tuple(built.blobs[name].shape) for name in "yw"] == [(3, 2), (3,)]
    selector = np.array([1, 0, -0.5]).reshape(3, 1, 1, 1)
    tops = built.forward(x=X, z=np.array([7, 8, 9]), s=selector)
    assert tops["y"].tolist() == [[0, 1], [4, 5]] and tops["w"].tolist() == [7, 9]
    built.blobs["y"].diff[...], built.blobs["w"].diff[...] = [[1, 2], [3, 4]], [5, 6]
    built.backward()
    assert built.blobs["x"].diff.tolist() == [[1, 2], [0, 0], [3, 4]] and built.blobs["z"].diff.tolist() == [5, 0, 6]


def test_nothing_selected_then_all():
    built = net(inputs(x=(3, 2), z=(3,), s=(3,)) + FILTER)
    assert built.forward(x=X, z=np.ones(3), s=np.zeros(3))["y"].shape == (0, 2)
    built.backward()
    assert not built.blobs["x"].diff.any()
    assert np.array_equal(built.forward(x=X, z=np.ones(3), s=np.ones(3))["y"], X)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"x": (3, 2), "z": (3,), "s": (3, 2)}, "expected one value for each item"),
        ({"x": (3, 2), "z": (2,), "s": (3,)}, "a selector for 3 items"),
    ],
)
def test_selectors_that_do_not_fit(shapes, said):
    with pytest.raises(NetError, match=said):
        net(inputs(**shapes) + FILTER)


def test_a_top_for_each_bottom():
    with pytest.raises(NetError, match="1 tops for 2 bottoms and a selector; expected 2"):
        net(inputs(x=(3, 2), z=(3,), s=(3,)) + FILTER.replace(' top: "w"', ""))


def test_a_learnt_selector_is_an_error_in_training():
    text = (
        inputs(x=(3, 2))
        + """
layer { name: "c" type: "Reduction" bottom: "x" top: "s" reduction_param { axis: 1 } }
layer { name: "l" type: "Filter" bottom: "x" bottom: "s" top: "y" }"""
    )
    x = torch.ones(3, 2, requires_grad=True)
    with pytest.raises(NetError, match=r"a gradient is asked for 's'.*`propagate_down: true` `propagate_down: false`"):
        net(text, caffe.TRAIN)(x)
    assert net(text, caffe.TEST)(x)["y"].shape == (3, 2)
