"""The estimate of a training's memory, and batches that fit it."""

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import SolverError
from caffe_compat.training.memory import Need, estimate, smaller_batches
from tests.caffe_compat.nets import net
from tests.caffe_compat.training.nets import lay_out


def test_counted_by_hand():
    graph = net(
        """
input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 } }"""
    ).graph
    need = estimate(graph, histories=1, lean=True)
    assert need.fixed == (15 + 5) * 4 * 3
    assert need.per_item == round((5 * 16 * 4 + 2 * 5 * 4 * 4 + 2 * 5 * 4 * 8) * 1.15)
    assert estimate(graph, 1).per_item > need.per_item > estimate(graph, 1, lean=True, checkpointing=True).per_item


def test_largest_batch_that_fits():
    need = Need(100, 10)
    assert smaller_batches(12, 1, need, 1000) == (12, 1)
    assert smaller_batches(12, 2, need, 165) == (6, 4)
    with pytest.raises(SolverError, match="expected more memory"):
        smaller_batches(12, 1, need, 105)


def test_smaller_batches_take_the_same_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    trained = []
    for budget in (None, 200):
        solver = caffe.get_solver("solver.prototxt", fit_memory=budget)
        solver.step(5)
        trained.append(solver.net.params["ip"][0].data.copy())
    assert solver.param.iter_size > 1 and solver.net.blobs["data"].shape[0] * solver.param.iter_size == 4
    assert np.allclose(*trained, atol=1e-6)
