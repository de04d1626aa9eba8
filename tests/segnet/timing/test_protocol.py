"""The paper's tables: the whole protocol at a small size, and what the command makes of given outcomes."""

import json
import signal

import pytest

from segnet import paper
from segnet.timing.__main__ import main
from segnet.timing.child import attempt
from segnet.timing.jobs import Layer, Outcome, in_own_process

SMALL = ["--size", "32x48", "--classes", "3", "--iterations", "2", "--training-batch", "2"]
TABLE_6 = [
    "forward", "backward", "forward, for inference", "training memory, batch 2", "inference memory, batch 1",
    "caffemodel",
]  # fmt: skip
GIVEN = Outcome(
    {"forward": [10.0, 20.0], "backward": [30.0], "resident": [100.0], "parameters": [2.85], "size": [117.0]},
    [Layer("conv1", "Convolution", 3.0, 1.0), Layer("loss", "SoftmaxWithLoss", 1.0, 0.0)],
)


def _given(job):
    return GIVEN


def _tables(path):
    content = json.loads(path.read_text("utf-8"))
    return content, [{(one["network"], one.get("what")): one for one in each["records"]} for each in content["tables"]]


@pytest.mark.parametrize("way", ["--faithful", "--engine"])
def test_both_tables(capsys, tmp_path, narrow, way):
    path = tmp_path / "timing.json"
    words = [*SMALL, "--networks", "segnet,segnet_basic", "--json", str(path), way]
    assert main(words + ["--per-layer"] * (way == "--faithful"), run=attempt) == 0
    said = capsys.readouterr().out
    content, tables = _tables(path)
    assert content["complete"] is True
    assert content["settings"]["size"] == [32, 48] and content["settings"]["engine"] is (way == "--engine")
    assert "processor" in content["machine"]
    for name in ("segnet", "segnet_basic"):
        # an engine has no backward: its row stays, without a figure
        assert [what for network, what in tables[0] if network == name] == TABLE_6[way == "--engine" :]
        assert [what for network, what in tables[1] if network == name] == ["parameters", "forward"]
    for (_, what), one in (item for table in tables[:2] for item in table.items()):
        measured = way == "--faithful" or what not in ("backward", "training memory, batch 2")
        timed = what.startswith(("forward", "backward"))
        assert len(one["samples"]) == (0 if not measured else 2 if timed else 1)
        assert one["problem"] == ""
        if measured:
            assert one["measured"] == pytest.approx(sum(one["samples"]) / len(one["samples"]))
            assert one["measured"] > 0 or "memory" in what  # this process may have had more before
    assert tables[0]["segnet", "backward"]["paper"] == 488.71
    assert tables[1]["segnet_basic", "parameters"]["ratio"] == pytest.approx(1.416 / 1.425, abs=0.001)
    assert ("Layers of segnet_basic" in said) is (way == "--faithful")
    assert len(tables) == (4 if way == "--faithful" else 2)


def test_in_processes_of_its_own(capsys):
    words = [*SMALL[:4], "--iterations", "1", "--table", "1", "--networks", "segnet_basic"]
    assert main(words, run=in_own_process) == 0
    assert "segnet_basic  forward, ms " in capsys.readouterr().out


def test_each_measurement_is_made_once(capsys):
    jobs = []
    assert main([*SMALL, "--networks", "segnet,fcn"], run=lambda job: jobs.append(job) or GIVEN) == 0
    assert len(jobs) == len(set(jobs)) == 10  # both tables want the same forward and model here


def test_the_protocols_iterations(capsys):
    jobs = []
    assert main(["--table", "1"], run=lambda job: jobs.append(job) or GIVEN) == 0
    assert [job.network for job in jobs if job.measure == "model"] == list(paper.TABLE_1)
    assert {job.iterations for job in jobs if job.measure == "inference"} == {50}
    jobs.clear()
    assert main(["--table", "6"], run=lambda job: jobs.append(job) or GIVEN) == 0
    assert [job.network for job in jobs if job.measure == "model"] == list(paper.TABLE_6)
    assert {job.iterations for job in jobs if job.measure in ("inference", "training_passes")} == {10}
    assert {job.batch for job in jobs if job.measure == "training_memory"} == {4}
    assert {(job.height, job.width, job.classes) for job in jobs} == {(360, 480, 11)}


def test_given_outcomes(capsys, tmp_path):
    path = tmp_path / "timing.json"
    words = ["--networks", "segnet", "--per-layer", "--table", "6", "--markdown", "--json", str(path)]
    assert main(words, run=_given) == 0
    content, (figures, _) = _tables(path)
    assert figures["segnet", "forward"] == {
        "network": "segnet", "what": "forward", "unit": "ms", "paper": 422.5, "measured": 15.0, "ratio": 15 / 422.5,
        "samples": [10.0, 20.0], "problem": "",
    }  # fmt: skip
    assert figures["segnet", "caffemodel"]["ratio"] == 1.0
    assert content["tables"][1]["records"][0] == {
        "network": "segnet", "name": "conv1", "type": "Convolution", "forward": 3.0, "backward": 1.0,
    }  # fmt: skip
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["segnet", "forward, ms", "422.5", "15", "0.0355", "10 to 20"] in rows
    assert ["conv1", "Convolution", "3", "75.0%", "1", "100.0%"] in rows
    assert ["loss", "SoftmaxWithLoss", "1", "25.0%", "0", "0.0%"] in rows


def test_what_does_not_fit_is_a_row(capsys):
    def run(job):
        full = job.measure == "training_memory"
        return Outcome(problem=f"killed by {signal.SIGKILL}", too_large=True) if full else GIVEN

    assert main(["--networks", "segnet", "--table", "6"], run=run) == 0
    said = capsys.readouterr().out
    assert said.count("does not fit") == 1
    assert "segnet, training memory, batch 4: killed by 9" in said


def test_another_failure_is_told(capsys):
    def run(job):
        return Outcome(problem="of all things") if job.measure == "training_passes" else GIVEN

    assert main(["--networks", "segnet", "--table", "6"], run=run) == 1
    said = capsys.readouterr().out
    assert said.count("failed") == 2  # forward and backward
    assert "segnet, backward: of all things" in said
    assert "117" in said  # the others are there


def test_interrupted(capsys, tmp_path):
    def run(job):
        if job.measure == "inference":
            raise KeyboardInterrupt
        return GIVEN

    path = tmp_path / "timing.json"
    assert main(["--networks", "segnet", "--table", "6", "--json", str(path)], run=run) == 130
    said = capsys.readouterr()
    assert "stopped: the tables hold what was measured by then" in said.err
    content, (figures,) = _tables(path)
    assert content["complete"] is False
    assert [what for (_, what), one in figures.items() if one["samples"]] == ["forward", "backward"]
    assert "10 to 20" in said.out


def test_json_is_written_whole_or_not_at_all(capsys, tmp_path, monkeypatch):
    path = tmp_path / "timing.json"
    words = ["--networks", "segnet", "--table", "1", "--json", str(path)]
    with monkeypatch.context() as patched:
        patched.setattr("segnet.timing.__main__.describe", lambda device: {"processor": object()})  # no JSON
        with pytest.raises(TypeError):
            main(words, run=_given)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    assert main(words, run=_given) == 1
    assert path.read_text() == "old"
    assert main([*words, "--force"], run=_given) == 0
    assert json.loads(path.read_text("utf-8"))["complete"] is True
    assert list(tmp_path.iterdir()) == [path]
