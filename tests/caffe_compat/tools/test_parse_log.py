"""parse_log: the tables of training logs, and their picture."""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe_compat as caffe
from caffe_compat.tools.log_tables import LEAD, parse_log, read_log
from caffe_compat.tools.plot import plot_tables
from caffe_compat.training.report import CaffeFormatter
from tests.caffe_compat.tools.said import fail, run
from tests.shared import SHARED, needs_shared

SEGNET = """\
I20261123 05:45:03.000000   339 caffe.cpp:121] Starting Optimization
I20261123 05:45:04.000000   339 solver.cpp:250] Solving segnet
I20261123 05:45:06.500000   339 solver.cpp:214] Iteration 0, loss = 1.25713
I20261123 05:45:06.500001   339 solver.cpp:229]     Train net output #0: accuracy = 0.0941892
I20261123 05:45:06.500002   339 solver.cpp:229]     Train net output #1: loss = 1.25713 (* 1 = 1.25713 loss)
I20261123 05:45:06.500003   339 solver.cpp:229]     Train net output #2: per_class_accuracy = 0.1
I20261123 05:45:06.500004   339 solver.cpp:229]     Train net output #3: per_class_accuracy = 0.2
I20261123 05:45:06.500005   339 solver.cpp:486] Iteration 0, lr = 0.1
I20261124 05:45:04.000000   339 solver.cpp:214] Iteration 20, loss = nan
I20261124 05:45:04.000000   339 solver.cpp:229]     Train net output #0: accuracy = 1e-05
I20261124 05:45:04.000000   339 solver.cpp:229]     Train net output #1: loss = nan (* 1 = nan loss)
I20261124 05:45:04.000000   339 solver.cpp:229]     Train net output #2: per_class_accuracy = 0.3
I20261124 05:45:04.000000   339 solver.cpp:229]     Train net output #3: per_class_accuracy = 0.4
I20261124 05:45:04.000000   339 solver.cpp:486] Iteration 20, lr = 1e-03
"""
BVLC = """\
I1231 23:59:58.000000  7 solver.cpp:289] Solving LeNet
I1231 23:59:58.000000  7 solver.cpp:347] Iteration 0, Testing net (#0)
I1231 23:59:59.000000  7 solver.cpp:414]     Test net output #0: accuracy = 0.1
I1231 23:59:59.000000  7 solver.cpp:414]     Test net output #1: loss = 2.3 (* 1 = 2.3 loss)
I1231 23:59:59.000000  7 solver.cpp:347] Iteration 0, Testing net (#1)
I1231 23:59:59.000000  7 solver.cpp:414]     Test net output #0: accuracy = 0.2
I1231 23:59:59.500000  7 solver.cpp:239] Iteration 0 (-1.4013e-45 iter/s, 1.5s/10 iters), loss = 2.31
I1231 23:59:59.500000  7 solver.cpp:258]     Train net output #0: loss = 2.31 (* 1 = 2.31 loss)
I1231 23:59:59.500000  7 sgd_solver.cpp:112] Iteration 0, lr = 0.01
I0101 00:00:08.000000  7 solver.cpp:239] Iteration 10 (3.1 iter/s, 6.4s/20 iters), loss = 1.5
I0101 00:00:08.000000  7 solver.cpp:258]     Train net output #0: loss = 1.5 (* 1 = 1.5 loss)
I0101 00:00:08.000000  7 sgd_solver.cpp:112] Iteration 10, lr = 0.005
I0101 00:00:09.000000  7 solver.cpp:347] Iteration 15, Testing net (#0)
I0101 00:00:09.000000  7 solver.cpp:414]     Test net output #0: accuracy = 0.9
I0101 00:00:09.000000  7 solver.cpp:414]     Test net output #1: loss = 0.3 (* 1 = 0.3 loss)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path


def table(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_segnets_lines(folder, capsys):
    (folder / "train.log").write_text(SEGNET)
    said = run(capsys, "parse_log", "train.log", "out")
    assert said == ["Wrote 2 rows to out/train.log.train", "Wrote 0 rows to out/train.log.test"]
    assert table("out/train.log.train") == [
        ["NumIters", "Seconds", "LearningRate", "accuracy", "loss", "per_class_accuracy[0]", "per_class_accuracy[1]"],
        ["0", "2.500001", "0.1", "0.0941892", "1.25713", "0.1", "0.2"],
        ["20", "86400.0", "0.001", "1e-05", "nan", "0.3", "0.4"],
    ]
    assert table("out/train.log.test") == [["NumIters", "Seconds", "LearningRate"]]


def test_bvlcs_lines(folder, capsys):
    (folder / "caffe.INFO").write_text(BVLC)
    run(capsys, "parse_log", "caffe.INFO", "out")
    assert table("out/caffe.INFO.train") == [
        ["NumIters", "Seconds", "LearningRate", "loss"],
        ["0", "1.5", "0.01", "2.31"],
        ["10", "10.0", "0.005", "1.5"],
    ]
    assert table("out/caffe.INFO.test") == [
        ["NumIters", "Seconds", "LearningRate", "accuracy", "loss", "accuracy (#1)"],
        ["0", "1.0", "0.01", "0.1", "2.3", "0.2"],
        ["15", "11.0", "0.005", "0.9", "0.3", ""],
    ]


def test_a_log_without_times_or_rates():
    train, test = parse_log(["] Iteration 4, loss = 1", "    Train net output #0: loss = -inf"])
    (row,) = train.rows
    assert row["NumIters"] == 4 and row["loss"] == -math.inf
    assert math.isnan(row["Seconds"]) and math.isnan(row["LearningRate"]) and test.rows == []


def test_an_iteration_that_is_run_again_has_a_row_again():
    lines = ["] Iteration 4, loss = 1", "Train net output #0: loss = 1"] * 2
    assert [row["loss"] for row in parse_log(lines).train.rows] == [1, 1]


def test_what_a_training_here_logs(folder, caplog):
    net = """layer { name: "data" type: "DummyData" top: "data"
        dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "gaussian" } } }
      layer { name: "cost" type: "InnerProduct" bottom: "data" top: "cost" loss_weight: 1
        inner_product_param { num_output: 1 weight_filler { type: "gaussian" } } }"""
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        """net: "net.prototxt" test_iter: 2 test_interval: 4 display: 2 max_iter: 4 snapshot_after_train: false
        base_lr: 0.5 lr_policy: "step" stepsize: 2 gamma: 0.1"""
    )
    for dialect in ("segnet", "bvlc"):
        caplog.clear()
        with caplog.at_level("INFO", "caffe_compat"):
            caffe.SGDSolver("solver.prototxt", dialect=dialect).solve()
        train, test = parse_log(map(CaffeFormatter().format, caplog.records))
        assert [(row["NumIters"], row["LearningRate"]) for row in train.rows] == [(0, 0.5), (2, 0.05)]
        assert [(row["NumIters"], row["LearningRate"]) for row in test.rows] == [(0, 0.5), (4, 0.05)]
        assert train.columns == [*LEAD, "cost[0]", "cost[1]"] == test.columns
        assert all(row["Seconds"] >= 0 and row["cost[0]"] != row["cost[1]"] for row in train.rows + test.rows)


@needs_shared
def test_a_log_that_caffe_wrote():
    tables = read_log(SHARED / "models" / "segnet_basic_96x128" / "train.log")
    assert [row["NumIters"] for row in tables.train.rows] == list(range(0, 500, 20))
    assert len(tables.train.columns) == 3 + 2 + 11 and all(len(row) == 16 for row in tables.train.rows)
    assert tables.train.rows[1] | {"Seconds": 0} == {
        "NumIters": 20, "Seconds": 0, "LearningRate": 0.1, "accuracy": 0.461447, "loss": 0.654139,
        **{f"per_class_accuracy[{i}]": value for i, value in enumerate(
            [0.890461, 0.000398182, 0.0221643, 0.780339, 0.381488, 0.360912, 0.576271, 0, 0.258209, 0, 0.152381])},
    }  # fmt: skip


def test_what_is_no_log(folder, capsys):
    assert fail(capsys, "parse_log", "nothing.log", "out").startswith("nothing.log: does not exist")
    (folder / "other.log").write_text("hello\n")
    assert "other.log: has no line such as `Train net output" in fail(capsys, "parse_log", "other.log", "out")
    (folder / "train.log").write_text(SEGNET)
    assert "nowhere: there is no such folder" in fail(capsys, "parse_log", "train.log", "nowhere")


def test_without_matplotlib_the_error_says_how_to_get_it(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (folder / "train.log").write_text(SEGNET)
    error = fail(capsys, "parse_log", "train.log", "out", "--plot", "curves.png")
    assert 'pip install "caffe-segnet[plot]"' in error
    assert Path("out/train.log.train").exists() and not Path("curves.png").exists()


def test_the_picture(folder, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib, the optional extra plot")
    (folder / "caffe.INFO").write_text(BVLC)
    assert run(capsys, "parse_log", "caffe.INFO", "out", "--plot", "curves.png")[-1] == "Wrote curves.png"
    with Image.open("curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)} <= colours  # one for each of three columns
    assert "expected a name such as curves.png" in fail(capsys, "parse_log", "caffe.INFO", "out", "--plot", "curves")


def test_two_logs_in_one_picture(folder, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib, the optional extra plot")
    (folder / "caffe.INFO").write_text(BVLC)
    (folder / "train.log").write_text(SEGNET)
    run(capsys, "parse_log", "caffe.INFO", "out", "--plot", "both.svg", "--beside", "train.log")
    drawn = (folder / "both.svg").read_text()
    assert "caffe.INFO: loss" in drawn and "train.log: loss" in drawn
    assert "--beside without --plot" in fail(capsys, "parse_log", "caffe.INFO", "out", "--beside", "train.log")


def test_the_picture_is_the_programs_too(folder):
    pytest.importorskip("matplotlib", reason="needs matplotlib, the optional extra plot")
    plot_tables(parse_log(BVLC.splitlines()), folder / "curves.svg")
    assert (folder / "curves.svg").read_text().count("<svg") == 1
