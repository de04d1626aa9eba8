"""The training loop: what it does in which order, what it says, and what it refuses."""

import logging

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.errors import SolverError
from caffe_compat.training import learnable
from caffe_compat.training.solver import SNAPSHOT, STOP
from prototxt.caffe_pb2 import SolverParameter
from prototxt.errors import CaffeError
from tests.caffe_compat.training.nets import NET, SOLVER, lay_out


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "caffe_compat.training")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "caffe_compat.training"]


def solver(text="", **options):
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER + text)
    return caffe.get_solver("solver.prototxt", **options)


def weights(trained):
    return [blob.data.copy() for blob in trained.net.params["ip"]]


def test_one_step_by_hand(work):
    trained = solver()
    weight, bias = weights(trained)
    trained.net.forward()
    trained.net.clear_param_diffs()
    trained.net.backward()
    of_weight, of_bias = (blob.diff.copy() for blob in trained.net.params["ip"])
    other = solver()
    other.step(1)
    after = weights(other)
    assert np.allclose(after[0], weight - 0.1 * (of_weight + 0.01 * weight), atol=1e-6)
    assert np.allclose(after[1], bias - 0.2 * of_bias, atol=1e-6)
    assert np.allclose(other.net.params["ip"][0].diff, weight - after[0], atol=1e-6)  # Caffe leaves the update there
    assert other.iter == 1 and trained.iter == 0


@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_parameters_may_be_updated_in_pieces(work, monkeypatch, rule):
    text = SOLVER.replace("momentum: 0.9", "" if rule in ("AdaGrad", "RMSProp") else "momentum: 0.9")
    (work / "solver.prototxt").write_text(f"{text} type: '{rule}' delta: 1e-4 iter_size: 2")
    found = []
    for size in (learnable._PIECE, 5):
        monkeypatch.setattr(learnable, "_PIECE", size)
        trained = caffe.get_solver("solver.prototxt")
        trained.step(3)
        found.append([*weights(trained), *(blob.diff.copy() for blob in trained.net.params["ip"])])
    assert found[0][0].size > 5
    for whole, in_pieces in zip(*found, strict=True):
        assert np.allclose(whole, in_pieces, rtol=1e-6)


def test_log_lines(work, said):
    solver('test_iter: 2 test_interval: 5 type: "SGD" average_loss: 2').solve()
    lines = said()
    assert (
        lines[0] == "Solving small" and lines[1] == "Learning Rate Policy: fixed" and lines[-1] == "Optimization Done."
    )
    assert lines[2] == "Iteration 0, Testing net (#0)"
    assert lines[3].startswith("    Test net output #0: accuracy = ")
    assert " (* 1 = " in lines[4] and lines[4].startswith("    Test net output #1: loss = ")
    assert lines[5].startswith("Iteration 0 (0 iter/s, 0s/1 iters), loss = ")
    assert lines[6].startswith("    Train net output #0: loss = ") and lines[7] == "Iteration 0, lr = 0.1"
    assert sum(line.startswith("Iteration 5, Testing") for line in lines) == 1
    assert lines[-6] == "Snapshotting solver state to binary proto file small_iter_10.solverstate"
    assert lines[-5].startswith("Iteration 10, loss = ")


def test_segnets_log_has_no_speed(work, said):
    solver().step(1)
    assert said()[0].startswith("Iteration 0, loss = ")


def test_loss_is_averaged(work, said):
    lines = []
    for text in ("", "average_loss: 3"):
        start = len(said())
        solver(text).step(3)
        found = [line for line in said()[start:] if ", loss = " in line]
        lines.append([float(line.rpartition("= ")[2]) for line in found])
    alone, averaged = lines
    assert averaged == pytest.approx([alone[0], np.mean(alone[:2]), np.mean(alone)], rel=1e-4)


def test_test_net_follows_the_weights(work):
    trained = solver("test_iter: 3 test_interval: 100")
    trained.step(2)
    assert np.shares_memory(trained.test_nets[0].params["ip"][0].data, trained.net.params["ip"][0].data)
    means = trained.test()
    assert 0 <= means["accuracy"][0] <= 1 and np.isfinite(means["loss"][0])


def test_several_test_nets(work):
    states = "test_state { stage: 'a' } test_state { stage: 'b' }"
    trained = solver("test_iter: 1 test_iter: 2 test_interval: 10 " + states)
    assert len(trained.test_nets) == 2 and trained.test_nets[1].graph.stages == ("b",)


def test_iter_size_sums_and_divides(work):
    lay_out(work, NET.replace("batch_size: 4", "batch_size: 2"))
    two = solver("iter_size: 2")
    lay_out(work, NET)
    one = solver()
    for trained in (one, two):
        trained.step(1)
    assert np.allclose(weights(one)[0], weights(two)[0], atol=1e-6)


def test_bn_learns_from_the_last_pass_unless_told(work):
    more = """
layer { name: "map" type: "Reshape" bottom: "data" top: "map"
  reshape_param { shape { dim: 0 dim: 0 dim: 1 dim: 1 } } }
layer { name: "bn" type: "BN" bottom: "map" top: "map" bn_param { scale_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "map" """
    net = NET.replace('\nlayer { name: "ip" type: "InnerProduct" bottom: "data" ', more)
    lay_out(work, net)
    shifts = []
    for options in ({}, {"accumulate": True}):
        trained = solver("iter_size: 2", **options)
        trained.step(1)
        shifts.append(trained.net.params["bn"][1].data.ravel().copy())
    assert not np.allclose(*shifts)


def test_callbacks(work):
    trained = solver()
    order = []
    trained.add_callback(lambda: order.append("start"), lambda: order.append("gradients"))
    trained.after_iteration(lambda s: STOP if s.iter == 3 else SNAPSHOT if s.iter == 2 else None)
    trained.step(10)
    assert order == ["start", "gradients"] * 3 and trained.iter == 3 and trained.stopped_early
    assert (work / "small_iter_2.solverstate").exists() and not (work / "small_iter_3.solverstate").exists()


def test_debug_info(work, said, caplog):
    caplog.set_level(logging.INFO)
    solver("debug_info: true").step(1)
    text = "\n".join(record.getMessage() for record in caplog.records)
    for line in ("[Forward] Layer ip, top blob score data: ", "[Backward] Layer ip, param blob 0 diff: "):
        assert line in text
    assert "    [Update] Layer ip, param 1 data: 0; diff: " in text


def test_own_type_of_a_solver_class(work):
    assert type(caffe.AdamSolver("solver.prototxt").rule).__name__ == "Adam"
    (work / "solver.prototxt").write_text(SOLVER.replace("momentum: 0.9", "solver_type: ADAGRAD"))
    assert type(caffe.get_solver("solver.prototxt").rule).__name__ == "AdaGrad"


def test_net_in_the_message(work):
    from prototxt.net_file import read_net

    param = SolverParameter(net_param=read_net("net.prototxt").message, base_lr=0.1, lr_policy="fixed")
    caffe.Solver(param).step(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test_iter: 1", "test nets without `test_interval`"),
        ("test_net: 'net.prototxt'", "0 times `test_iter` for 1 test nets"),
        ("train_net: 'net.prototxt'", "`net` and `train_net`; expected one of"),
        ("test_iter: 1 test_interval: 1 test_state {} test_state {}", "2 times `test_state` for 1 test nets"),
        ("iter_size: 0", "`iter_size: 0`; expected at least 1"),
        ("regularization_type: 'L3'", "expected L1 or L2"),
        ("type: 'Adma'", "did you mean 'Adam'"),
        ("type: 'RMSProp'", "`momentum: 0.9` with `type: 'RMSProp'`"),
        ("type: 'RMSProp' rms_decay: 1 ", "expected 0 or more and below 1"),
        ("type: 'SGD' solver_type: ADAM", "both `type` and the old `solver_type`"),
        ("weights: 'nothing.caffemodel'", "'nothing.caffemodel' does not exist"),
    ],
)
def test_wrong_solvers(work, text, said):
    with pytest.raises(CaffeError, match=said):
        solver(text)


def test_everything_wrong_at_once(work):
    (work / "solver.prototxt").write_text("lr_policy: 'stepp' type: 'X'")
    with pytest.raises(SolverError) as caught:
        caffe.get_solver("solver.prototxt")
    assert len(caught.value.problems) == 4 and all("solver.prototxt" in problem for problem in caught.value.problems)


def test_first_value_that_is_no_number(work):
    trained = solver()
    trained.step(3)
    trained.net.params["ip"][0].data[0, 0] = np.nan
    with pytest.raises(SolverError, match=r"iteration 3: .*'ip'.*\(its weights\).*learning rate is 0.1"):
        trained.step(1)
    with pytest.raises(SolverError, match=r"iteration 0: .*'score'.*mostly missing weights"):
        broken = solver()
        broken.net.layer_dict["ip"].register_forward_hook(lambda module, bottoms, top: top * np.nan)
        broken.step(1)


def test_gradient_that_is_no_number(work):
    trained = solver()
    trained.add_callback(lambda: None, lambda: trained.net.params["ip"][1].diff.fill(np.inf))
    with pytest.raises(SolverError, match="iteration 0: layer 'ip': the gradient of its blob 1 is not finite"):
        trained.step(1)


def test_data_that_is_no_number(work):
    import h5py

    with h5py.File("data.h5", "a") as file:
        file["data"][5, 1] = np.nan
    with pytest.raises(SolverError, match=r"iteration 1: .*'data'.*comes from the data"):
        solver().step(5)
