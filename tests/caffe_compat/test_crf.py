"""Dense CRFs, and the lattice that filters for them."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from caffe_compat.permutohedral import Lattice
from tests.caffe_compat.nets import inputs, net

MEANFIELD = """
layer { name: "crf" type: "MultiStageMeanfield" bottom: "u" bottom: "q" bottom: "image" top: "y"
  multi_stage_meanfield_param { num_iterations: 3 theta_alpha: 8 theta_beta: 20 theta_gamma: 3
    spatial_filter_weights_str: "3 4" bilateral_filter_weights_str: "5 6" } }"""
MEANFIELD_INPUTS = inputs(u=(1, 2, 6, 7), q=(1, 2, 6, 7), image=(1, 3, 6, 7))
DENSE = """
layer { name: "crf" type: "DenseCRF" bottom: "x" bottom: "dim" bottom: "image" top: "y"
  dense_crf_param { max_iter: 3 pos_xy_std: 3 pos_w: 3 bi_xy_std: 30 bi_rgb_std: 20 bi_w: 5 } }"""
DENSE_INPUTS = inputs(x=(2, 3, 5, 6), dim=(2, 1, 1, 2), image=(2, 3, 5, 6))


def test_lattice_approximates_a_gaussian():
    rows, columns = np.mgrid[:20, :25]
    features = np.stack([rows.ravel(), columns.ravel()], axis=1) / 3
    values = np.random.default_rng(0).random((500, 2)).astype(np.float32)
    lattice = Lattice(features)
    ours = lattice.filter(torch.from_numpy(values)) / lattice.filter(torch.ones(500, 1))
    kernel = np.exp(-0.5 * ((features[:, None] - features) ** 2).sum(-1))
    assert np.abs(ours.numpy() - kernel @ values / kernel.sum(1, keepdims=True)).max() < 0.03


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_gradient_of_the_lattice_is_its_adjoint(dims):
    lattice = Lattice(np.random.default_rng(0).normal(size=(30, dims)))
    assert torch.autograd.gradcheck(lattice.filter, torch.rand(30, 2, dtype=torch.float64, requires_grad=True))


def test_meanfield_begins_with_the_written_weights():
    built = net(MEANFIELD_INPUTS + MEANFIELD)
    spatial, bilateral, compatibility = (blob.data[0, 0] for blob in built.params["crf"])
    assert np.array_equal(spatial, np.diag([3, 4])) and np.array_equal(bilateral, np.diag([5, 6]))
    assert np.array_equal(compatibility, -np.eye(2))


def test_meanfield_is_differentiable_and_overwrites_its_gradients():
    built = net("force_backward: true " + MEANFIELD_INPUTS + MEANFIELD, caffe.TRAIN)
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=built.blobs[name].shape) for name in ("u", "q", "image")}
    first = None
    for _ in range(2):
        built.forward(**arrays)
        built.blobs["y"].diff[...] = 1 + np.arange(84).reshape(1, 2, 6, 7) % 3
        built.backward()
        gradient = built.params["crf"][0].diff.copy()
        assert np.abs(gradient).max() > 0 and (first is None or np.allclose(gradient, first))
        first = gradient
    assert np.abs(built.blobs["u"].diff).max() > 0 and np.abs(built.blobs["q"].diff).max() > 0


def test_meanfield_gradients_are_right():
    module = net(MEANFIELD_INPUTS + MEANFIELD).double().layer["crf"]
    image = 50 * torch.rand(1, 3, 3, 4, dtype=torch.float64)
    scores = [torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda u, q: module(u, q, image), scores)


def test_dense_crf_counts_only_the_size_it_is_told():
    built = net(DENSE_INPUTS + DENSE.replace("bi_w: 5", "bi_w: 5 output_probability: true"))
    random = np.random.default_rng(0)
    built.forward(
        x=random.normal(size=(2, 3, 5, 6)),
        dim=np.array([[9, 9], [3, 4]]).reshape(2, 1, 1, 2),
        image=random.uniform(0, 255, (2, 3, 5, 6)),
    )
    sums = built.blobs["y"].data.sum(axis=1)
    assert np.allclose(sums[0], 1) and np.allclose(sums[1, :3, :4], 1)
    assert not sums[1, 3:].any() and not sums[1, :, 4:].any()


def test_dense_crf_gives_logarithms():
    arrays = dict(x=np.zeros((2, 3, 5, 6)), dim=np.full((2, 1, 1, 2), 99), image=np.zeros((2, 3, 5, 6)))
    arrays["x"][:, 0] = 50
    text = DENSE_INPUTS + DENSE.replace("bi_w: 5", "bi_w: 5 output_probability: WORD")
    probability, logarithm = (net(text.replace("WORD", word)).forward(**arrays)["y"] for word in ("true", "false"))
    assert probability[0, 1, 0, 0] == 0 and np.isclose(logarithm[0, 1, 0, 0], np.log(np.finfo(np.float32).tiny))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DENSE_INPUTS + DENSE.replace("pos_w: 3", ""), "0 times `pos_w`, 1 times `pos_xy_std`"),
        (DENSE_INPUTS + DENSE.replace('bottom: "image"', ""), "2 bottoms and 1 bilateral kernels"),
        (MEANFIELD_INPUTS + MEANFIELD.replace('"3 4"', '"3"'), "`spatial_filter_weights_str: '3'`; expected 2 numbers"),
        (MEANFIELD_INPUTS + MEANFIELD.replace("num_iterations: 3", "num_iterations: 1"), "expected at least 2"),
        (MEANFIELD_INPUTS.replace("dim: 7", "dim: 8", 1) + MEANFIELD, "of one size"),
    ],
)
def test_wrong_settings(text, said):
    with pytest.raises(NetError, match=said):
        net(text)
