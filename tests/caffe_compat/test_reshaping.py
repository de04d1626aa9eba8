"""Flatten, Reshape, Tile and Reduction."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def built(type_name, param, shape, top="y", **options):
    text = f'force_backward: true layer {{ name: "l" type: "{type_name}" bottom: "x" top: "{top}" {param} }}'
    return net(inputs(x=shape) + text, **options)


def shape_of(type_name, param, shape, **options):
    """The top's shape, after a pass that has proved it."""
    made = built(type_name, param, shape, **options)
    inferred = tuple(made.blobs["y"].shape)
    x = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(made.forward(x=x)["y"].ravel(), x.ravel()) and made.blobs["y"].data.shape == inferred
    return inferred


@pytest.mark.parametrize(
    ("param", "want"),
    [
        ("", (2, 60)),
        ("axis: 0", (120,)),
        ("axis: -2", (2, 3, 20)),
        ("axis: 1 end_axis: 2", (2, 12, 5)),
        ("axis: 2 end_axis: -2", (2, 3, 4, 5)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),
    ],
)
def test_flatten(param, want):
    assert shape_of("Flatten", f"flatten_param {{ {param} }}", (2, 3, 4, 5)) == want


def test_flatten_of_deconvnet_keeps_four_axes():
    assert shape_of("Flatten", "", (2, 3, 4, 5), dialect="deconvnet") == (2, 60, 1, 1)


def shape_param(dims, more=""):
    return f"reshape_param {{ shape {{ {' '.join(f'dim: {d}' for d in dims)} }} {more} }}"


@pytest.mark.parametrize(
    ("dims", "more", "want"),
    [
        ((0, -1, 5), "", (2, 12, 5)),
        ((120,), "", (120,)),
        ((-1,), "", (120,)),
        ((0, 0, 0, 0), "", (2, 3, 4, 5)),
        ((0, 0, 0, 0, 1, 1), "", (2, 3, 4, 5, 1, 1)),
        ((6, 2), "axis: 1 num_axes: 2", (2, 6, 2, 5)),
        ((-1, 0), "axis: 1 num_axes: 2", (2, 3, 4, 5)),
        ((1,), "axis: 2 num_axes: 0", (2, 3, 1, 4, 5)),
        ((1, 1), "axis: -1", (2, 3, 4, 5, 1, 1)),
        ((-1,), "axis: -3", (2, 3, 20)),
        ((1,), "axis: -5 num_axes: 0", (1, 2, 3, 4, 5)),
        ((), "axis: 4", (2, 3, 4, 5)),
    ],
)
def test_reshape(dims, more, want):
    assert shape_of("Reshape", shape_param(dims, more), (2, 3, 4, 5)) == want


def test_reshape_to_a_single_value():
    assert shape_of("Reshape", "reshape_param { shape { } }", (1, 1)) == ()


def test_reshape_follows_the_batch():
    made = built("Reshape", shape_param((0, -1)), (2, 3, 4))
    assert made(torch.ones(5, 3, 4))["y"].shape == (5, 12)


@pytest.mark.parametrize(
    ("dims", "more", "said"),
    [
        ((-1, -1), "", "at most one -1"),
        ((-2, 3), "", "at most one -1"),
        ((7, -1), "", "is for a multiple of 7"),
        ((7, 2), "", r"has 24 values, `shape` with the dims \(7, 2\) is for 14"),
        ((2, 3, 4, 0), "", "stands for axis 3"),
        ((0,), "axis: 4", "`axis: 4`"),
        ((0,), "axis: -5", "`axis: -5`"),
        ((0,), "axis: 2 num_axes: 2", "`num_axes: 2`"),
        ((0,), "num_axes: -2", "`num_axes: -2`"),
    ],
)
def test_reshape_refuses(dims, more, said):
    with pytest.raises(NetError, match=said):
        built("Reshape", shape_param(dims, more), (2, 3, 4))


def test_shapes_that_cannot_be():
    with pytest.raises(NetError, match="expected the end not before it"):
        built("Flatten", "flatten_param { axis: 2 end_axis: 0 }", (2, 3, 4))
    for name in ("Flatten", "Reshape"):
        with pytest.raises(NetError, match="'x' is also the bottom"):
            built(name, "", (2, 3, 4), top="x")


@pytest.mark.parametrize(("param", "axis"), [("", 1), ("axis: 0", 0), ("axis: -1", 2)])
def test_tile_and_its_gradient(param, axis):
    made = built("Tile", f"tile_param {{ tiles: 3 {param} }}", (2, 2, 2))
    x = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    assert np.array_equal(made.forward(x=x)["y"], np.concatenate([x] * 3, axis))
    made.blobs["y"].diff[...] = np.concatenate([x, 2 * x, 3 * x], axis)
    made.backward()
    assert np.array_equal(made.blobs["x"].diff, 6 * x)


def test_tile_refuses():
    for param in ("", "tiles: 0", "tiles: -1"):
        with pytest.raises(NetError, match="expected at least 1"):
            built("Tile", f"tile_param {{ {param} }}", (1, 2))
    with pytest.raises(NetError, match="axis 2 is out of range"):
        built("Tile", "tile_param { tiles: 2 axis: 2 }", (1, 2))


@pytest.mark.parametrize(
    ("param", "y", "gradient"),
    [
        ("", 1, [[1, 1, 1], [1, 1, 1]]),
        ("operation: SUM coeff: 2 axis: 1", [-2, 4], [[2, 2, 2], [20, 20, 20]]),
        ("operation: ASUM axis: -1", [3, 6], [[1, -1, 0], [10, -10, 10]]),
        ("operation: SUMSQ axis: 1 coeff: 0.5", [2.5, 6], [[1, -2, 0], [20, -20, 20]]),
        ("operation: MEAN axis: 0 coeff: 3", 0.5, [[0.5] * 3] * 2),
    ],
)
def test_reduction(param, y, gradient):
    made = built("Reduction", f"reduction_param {{ {param} }}", (2, 3))
    x = np.array([[1, -2, 0], [2, -2, 2]])
    top = made.forward(x=x)["y"]
    assert top.shape == np.shape(y) and np.allclose(top, y)
    made.blobs["y"].diff[...] = 1 if np.ndim(y) == 0 else [1, 10]
    made.backward()
    assert np.allclose(made.blobs["x"].diff, gradient)


@pytest.mark.parametrize("operation", ["SUM", "SUMSQ", "MEAN"])
def test_gradients_of_reduction(operation):
    layer = built("Reduction", f"reduction_param {{ operation: {operation} axis: 1 coeff: -2 }}", (2, 3, 2)).layer["l"]
    assert torch.autograd.gradcheck(layer, torch.rand(2, 3, 2, dtype=torch.float64, requires_grad=True))


def test_reduction_refuses_an_axis_too_far():
    with pytest.raises(NetError, match="axis 2 is out of range"):
        built("Reduction", "reduction_param { axis: 2 }", (2, 3))
