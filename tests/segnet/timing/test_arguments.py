"""What is wrong with a command line is told before anything is measured, in one error."""

import pytest
import torch

from segnet.timing.__main__ import main


def _error(capsys, *words):
    def run(job):
        raise AssertionError(f"{job} was measured")

    assert main([str(word) for word in words], run=run) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    return said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--networks", "segent"], ["network 'segent' is not among segnet, ", "did you mean 'segnet'?"]),
        (["--against", "plane"], ["contender 'plane' is not among engine, plain, ", "did you mean 'plain'?"]),
        (
            ["--against", "plane", "--networks", "fcn"],
            ["2 problems", "network 'fcn' is not among segnet, segnet_basic"],
        ),
        (["--engine", "--against", "plain"], ["--engine: the engine is a contender"]),
        (["--warm-up", "2", "--against", "plain"], ["--warm-up: "]),
        (["--engine", "--per-layer"], ["--per-layer times the layers of the faithful net in fp32"]),
        (["--precision", "bf16", "--per-layer"], ["--per-layer times the layers of the faithful net in fp32"]),
        (["--per-layer", "--against", "plain"], ["--per-layer times"]),
        (["--sizes", "8x8", "--batches", "1"], ["--sizes is for --scaling", "--batches is for --scaling"]),
        (["--training-batch", "2", "--table", "1"], ["--training-batch is for table 6"]),
        (["--training-batch", "2", "--against", "plain"], ["--training-batch is for table 6"]),
        (["--weights", "a.caffemodel", "--networks", "segnet"], ["--weights is for --against"]),
        (["--weights", "a.caffemodel", "--against", "plain"], ["--weights are those of one network"]),
    ],
)
def test_refused(capsys, words, told):
    said = _error(capsys, *words)
    for part in told:
        assert part in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU; this one has one")
def test_no_gpu(capsys):
    assert "--device cuda: torch sees no CUDA device here; expected --device cpu" in _error(capsys, "--device", "cuda")


@pytest.mark.parametrize(
    "words",
    [["--table", "1", "--scaling"], ["--engine", "--faithful"], ["--table", "2"], ["--size", "32"], ["--batch", "0"]],
)
def test_refused_by_the_parser(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert f"argument {words[-2] if len(words) == 2 else words[-1]}" in capsys.readouterr().err


def test_files_are_looked_at_first(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    there, picture = tmp_path / "there.json", tmp_path / "there.png"
    for path in (there, picture):
        path.write_text("old")
    said = _error(capsys, "--scaling", picture, "--json", there)
    assert f"{there}: exists already" in said and f"{picture}: exists already" in said and "--force" in said
    assert (there.read_text(), picture.read_text()) == ("old", "old")
    assert str(tmp_path / "none") in _error(capsys, "--json", tmp_path / "none" / "a.json")
    assert "pictures cannot be written as 'foo'" in _error(capsys, "--scaling", tmp_path / "a.foo")
