"""What parameters start with."""

import math

import pytest
import torch

from caffe_compat.errors import LayerError
from caffe_compat.fillers import fill
from prototxt.caffe_pb2 import FillerParameter


def filled(shape, **param):
    torch.manual_seed(0)
    tensor = torch.full(shape, math.nan)
    fill(tensor, FillerParameter(**param))
    return tensor


def test_constant():
    assert (filled((2, 3), value=4) == 4).all()
    assert (filled((2, 3)) == 0).all()


def test_uniform():
    x = filled((1000,), type="uniform", min=-2, max=3)
    assert -2 <= x.min() < -1.9 and 2.9 < x.max() <= 3


def test_gaussian():
    x = filled((10000,), type="gaussian", mean=5, std=2)
    assert abs(x.mean() - 5) < 0.1 and abs(x.std() - 2) < 0.1


def test_sparse_gaussian_keeps_a_share_by_the_first_axis():
    x = filled((10, 10000), type="gaussian", std=1, sparse=3)
    assert abs((x != 0).float().mean() - 0.3) < 0.01


@pytest.mark.parametrize(("norm", "n"), [("FAN_IN", 3 * 25), ("FAN_OUT", 64 * 25), ("AVERAGE", (3 + 64) * 25 / 2)])
def test_xavier_and_msra_count_as_caffe(norm, n):
    norm = FillerParameter.VarianceNorm.Value(norm)
    x = filled((64, 3, 5, 5), type="xavier", variance_norm=norm)
    assert math.isclose(x.abs().max(), math.sqrt(3 / n), rel_tol=0.01)
    y = filled((64, 3, 5, 5), type="msra", variance_norm=norm)
    assert math.isclose(y.std(), math.sqrt(2 / n), rel_tol=0.05)


def test_fan_out_of_a_single_axis_is_its_count():
    x = filled((1000,), type="xavier", variance_norm=FillerParameter.FAN_OUT)
    assert math.isclose(x.abs().max(), math.sqrt(3 / 1000), rel_tol=0.01)


def test_positive_unitball_rows_sum_to_one():
    x = filled((4, 3, 2), type="positive_unitball")
    assert x.min() >= 0 and torch.allclose(x.sum((1, 2)), torch.ones(4))


def test_bilinear_kernel():
    x = filled((2, 1, 4, 4), type="bilinear")
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.allclose(x[1, 0], line[:, None] * line)


@pytest.mark.parametrize(
    ("param", "said"),
    [({"type": "xavir"}, "did you mean 'xavier'"), ({"type": "msra", "sparse": 2}, "only the gaussian filler"),],
)  # fmt: skip
def test_wrong_fillers(param, said):
    with pytest.raises(LayerError, match=said):
        filled((2, 2), **param)


def test_bilinear_needs_square_kernels():
    with pytest.raises(LayerError, match=r"\(2, 1, 4, 5\)"):
        filled((2, 1, 4, 5), type="bilinear")
