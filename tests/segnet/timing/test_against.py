"""Contenders in turns."""

import importlib.util
import json

import pytest

from caffe_compat.errors import RoomError
from prototxt.errors import CaffeError
from segnet.timing import against
from segnet.timing.__main__ import main
from segnet.timing.against import Turns

SMALL = ["--size", "32x48", "--classes", "3", "--networks", "segnet_basic", "--iterations", "2"]


def _records(path):
    (table,) = json.loads(path.read_text("utf-8"))["tables"]
    return {one["contender"]: one for one in table["records"]}


def test_ratios_of_medians_and_of_turns():
    took = [
        Turns("net", [0.010, 0.020, 0.040], 1.0),
        Turns("plain", [0.005, 0.030, 0.080], 0.99875),
        Turns("opencv", problem="not here"),
    ]
    table = against.table("A table", "segnet", took)
    assert table.rows == [
        ["segnet", "net", "20", "1.00", "1.00 to 1.00", "100.0000%"],
        ["segnet", "plain", "30", "1.50", "0.50 to 2.00", "99.8750%"],
        ["segnet", "opencv", "–", "–", "", "–"],
    ]
    assert table.notes == ["opencv: not here"]
    assert [one.get("ratio") for one in table.records] == [1.0, pytest.approx(1.5), None]
    assert table.records[1]["seconds"] == [0.005, 0.030, 0.080]
    assert (table.records[1]["least ratio"], table.records[1]["greatest ratio"]) == (0.5, 2.0)


def test_they_give_the_nets_labels(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = tmp_path / "timing.json"
    assert main([*SMALL, "--against", "plain,onnxruntime", "--json", str(path)]) == 0
    records = _records(path)
    assert list(records) == ["net", "plain", "onnxruntime", "engine"]
    for one in records.values():
        assert one["problem"] == ""
        assert len(one["seconds"]) == 2
        assert one["agreement"] >= 0.999  # random weights: a pixel or two may be as near one class as another
        assert one["least ratio"] <= one["greatest ratio"]
    assert records["net"]["ratio"] == 1.0


def test_max_unpool_where_planes_are_even(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "timing.json"
    assert main([*SMALL, "--against", "maxunpool", "--json", str(path)]) == 0
    assert _records(path)["maxunpool"]["agreement"] >= 0.999
    words = ["--size", "30x48", *SMALL[2:], "--force"]
    assert main([*words, "--against", "maxunpool", "--json", str(path)]) == 0
    assert "MaxUnpool makes planes of whole windows alone" in _records(path)["maxunpool"]["problem"]


def test_opencv_gives_the_nets_labels(tmp_path, capsys):
    pytest.importorskip("cv2", reason="needs OpenCV, which is not installed")
    pytest.importorskip("onnx")
    path = tmp_path / "timing.json"
    assert main([*SMALL, "--against", "opencv", "--json", str(path)]) == 0
    one = _records(path)["opencv"]
    assert one["problem"] or one["agreement"] >= 0.999  # some versions cannot read unpooling, and say so


@pytest.mark.skipif(importlib.util.find_spec("cv2") is not None, reason="needs a machine without OpenCV")
def test_what_is_not_installed_is_a_row(tmp_path, capsys):
    path = tmp_path / "timing.json"
    assert main([*SMALL, "--against", "opencv", "--json", str(path)]) == 0
    records = _records(path)
    assert list(records) == ["net", "engine", "opencv"]
    assert "pip install opencv-python-headless" in records["opencv"]["problem"]
    assert "opencv: OpenCV is not installed" in capsys.readouterr().out


def test_what_does_not_fit_is_a_row(monkeypatch, capsys):
    def compare(*given):
        raise RoomError("no room for it")

    monkeypatch.setattr(against, "compare", compare)
    assert main([*SMALL, "--against", "plain"]) == 0
    assert "net: no room for it" in capsys.readouterr().out


def test_what_fails_for_one_network_leaves_the_others_tables(monkeypatch, capsys):
    def compare(network, *given):
        if network == "segnet":
            raise CaffeError("segnet cannot be built")
        return [Turns("net", [0.5], 1.0)]

    monkeypatch.setattr(against, "compare", compare)
    assert main(["--against", "plain"]) == 1
    said = capsys.readouterr().out
    assert "net: segnet cannot be built" in said and "segnet_basic: 360×480" in said


def test_interrupted(monkeypatch, capsys):
    def compare(network, *given):
        if network == "segnet_basic":
            raise KeyboardInterrupt
        return [Turns("net", [0.5], 1.0)]

    monkeypatch.setattr(against, "compare", compare)
    assert main(["--against", "plain"]) == 130
    said = capsys.readouterr()
    assert "segnet: 360×480" in said.out and "segnet_basic: " not in said.out
    assert "stopped" in said.err


def test_weights_that_are_not_there(tmp_path, capsys):
    assert main([*SMALL, "--against", "plain", "--weights", str(tmp_path / "none.caffemodel")]) == 1
    assert "none.caffemodel" in capsys.readouterr().err
