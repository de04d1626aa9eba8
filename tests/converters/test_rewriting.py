"""Weights and solver states to HDF5 and back: the same values, bit for bit, and one error where that cannot be."""

import numpy as np
import pytest

import caffe_compat as caffe
from converters.__main__ import main
from converters.rewriting import rewrite
from prototxt.errors import CaffeError, FormatError
from prototxt.net_file import parse_net
from prototxt.solverstate import SolverState, read_solverstate, write_solverstate
from prototxt.weights_h5 import read_weights
from tests.caffe_compat.nets import AUTOENCODER

SHARED = """
input: "x" input_dim: 1 input_dim: 4 input_dim: 1 input_dim: 1
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } inner_product_param { num_output: 4
  weight_filler { type: "gaussian" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } inner_product_param { num_output: 4 } }
"""


def values(path):
    return {layer.name: [blob.data for blob in layer.blobs] for layer in read_weights(path).layers if layer.blobs}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, blobs in ours.items():
        for one, other in zip(blobs, theirs[name], strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_weights_there_and_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = caffe.Net(parse_net(AUTOENCODER), caffe.TEST)
    net.save("a.caffemodel")
    assert main(["rewrite", "a.caffemodel", "b.caffemodel.h5"]) == 0
    assert capsys.readouterr().out == f"wrote b.caffemodel.h5: weights of {len(net.params)} layers\n"
    assert main(["rewrite", "b.caffemodel.h5", "c.caffemodel", "--dialect", "bvlc"]) == 0
    same(values("a.caffemodel"), values("b.caffemodel.h5"))
    same(values("a.caffemodel"), values("c.caffemodel"))
    for name in ("b.caffemodel.h5", "c.caffemodel"):
        other = caffe.Net(parse_net(AUTOENCODER), name, caffe.TEST)
        for layer, blobs in net.params.items():
            for ours, theirs in zip(blobs, other.params[layer], strict=True):
                np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize("ending", [".solverstate", ".solverstate.h5"])
def test_states_there_and_back(tmp_path, ending):
    random = np.random.default_rng(0)
    history = [random.normal(size=shape).astype("f4") for shape in ((3, 2, 1, 1), (4,))]
    state = SolverState(1234, "snapshots/a_iter_1234.caffemodel", 2, history)
    first, second, third = (tmp_path / f"a{end}" for end in (ending, ".x.solverstate.h5", ".y.solverstate"))
    write_solverstate(first, state)
    rewrite(first, second)
    assert rewrite(second, third) == f"wrote {third}: solver state of iteration 1234, 2 arrays"
    for path in (second, third):
        found = read_solverstate(path)
        assert (found.iteration, found.learned_net, found.current_step) == (1234, state.learned_net, 2)
        for ours, theirs in zip(history, found.history, strict=True):
            assert ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
    if ending == ".solverstate":
        assert first.read_bytes() == third.read_bytes()


def test_a_parameter_that_is_shared_is_not_guessed(tmp_path):
    net = caffe.Net(parse_net(SHARED), caffe.TEST)
    net.save(str(tmp_path / "a.caffemodel.h5"))
    with pytest.raises(FormatError, match=r"layer 'b' is without blob 0, which it shares"):
        rewrite(tmp_path / "a.caffemodel.h5", tmp_path / "b.caffemodel")
    assert not (tmp_path / "b.caffemodel").exists()
    net.save(str(tmp_path / "c.caffemodel"))
    rewrite(tmp_path / "c.caffemodel", tmp_path / "d.caffemodel.h5")
    other = caffe.Net(parse_net(SHARED), str(tmp_path / "d.caffemodel.h5"), caffe.TEST)
    np.testing.assert_array_equal(net.params["b"][0].data, other.params["b"][0].data)


def test_what_is_refused(tmp_path):
    state, weights = tmp_path / "a.solverstate", tmp_path / "a.caffemodel"
    write_solverstate(state, SolverState(1, "x", 0, [np.ones(2, "f4")]))
    caffe.Net(parse_net(AUTOENCODER), caffe.TEST).save(str(weights))
    for source, target, said in (
        (state, "b.pt", "expected a name that ends in .caffemodel or .solverstate"),
        (state, "b.caffemodel.h5", "a solver state"),
        (weights, "b.solverstate.h5", "give a .solverstate"),
        (state, "a.caffemodel", "a solver state"),
        (weights, "a.caffemodel", "exists already"),
    ):
        with pytest.raises(CaffeError, match=said):
            rewrite(source, tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.caffemodel", "a.solverstate"]
