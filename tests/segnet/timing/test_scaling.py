"""Time and memory over sizes and batches."""

import json

import pytest

from prototxt.errors import CaffeError
from segnet.timing import scaling
from segnet.timing.__main__ import main
from segnet.timing.child import attempt
from segnet.timing.jobs import Outcome
from segnet.timing.tables import Settings

WORDS = ["--networks", "segnet_basic", "--size", "32x48", "--classes", "3", "--iterations", "2"]


def test_rows_for_given_outcomes():
    points = scaling.points(["segnet_basic"], Settings((20, 50)), [(10, 50), (20, 50)], [1, 4])
    known = {}
    for point in points:
        pixels = point.size[0] * point.size[1] * point.batch
        known[point.time] = Outcome({"forward": [0.001 * pixels, 0.003 * pixels]})
        known[point.memory] = Outcome({"resident": [pixels / 100]})
    known[points[-1].memory] = Outcome(problem="no room", too_large=True)
    table = scaling.table("A table", points, known)
    assert table.rows == [  # one image of 20×50 is a size and a batch, and stands there once
        ["segnet_basic", "10×50", "1", "1", "2000", "5"],
        ["segnet_basic", "20×50", "1", "2", "2000", "10"],
        ["segnet_basic", "20×50", "4", "8", "2000", "–"],
    ]
    assert table.notes == ["segnet_basic, 20×50, batch 4: no room"]
    assert not table.failed
    known[points[-1].memory] = Outcome(problem="of all things")
    assert scaling.table("A table", points, known).failed


def test_a_picture_and_its_table(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib, which is not installed")
    picture, path = tmp_path / "scaling.png", tmp_path / "scaling.json"
    words = [*WORDS, "--sizes", "16x24,32x48", "--batches", "1,2", "--scaling", str(picture), "--json", str(path)]
    assert main(words, run=attempt) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    (table,) = json.loads(path.read_text("utf-8"))["tables"]
    assert [(one["height"], one["width"], one["batch"]) for one in table["records"]] == [
        (16, 24, 1), (32, 48, 1), (32, 48, 2),
    ]  # fmt: skip
    assert all(len(one["forward"]) == 2 and one["problems"] == [] for one in table["records"])


def test_a_picture_that_cannot_be_written_costs_no_figures(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib, which is not installed")

    def draw(*given):
        raise CaffeError("no space left")

    monkeypatch.setattr(scaling, "draw", draw)
    words = [*WORDS, "--sizes", "16x24", "--batches", "1", "--scaling", str(tmp_path / "a.png")]
    assert main(words, run=lambda job: Outcome({"forward": [5.0], "resident": [7.0]})) == 1
    said = capsys.readouterr()
    assert "segnet_basic" in said.out and "no space left" in said.err


def test_interrupted(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib, which is not installed")

    def run(job):
        raise KeyboardInterrupt

    assert main([*WORDS, "--scaling", str(tmp_path / "a.png")], run=run) == 130
    assert "stopped" in capsys.readouterr().err
