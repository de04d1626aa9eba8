"""The command line itself: how flags may be written, what is told when one is wrong, and how it ends."""

import logging
import subprocess
import sys

import pytest

from caffe_compat.__main__ import COMMANDS, main
from caffe_compat.tools import device_query
from tests.caffe_compat.nets import AUTOENCODER
from tests.caffe_compat.tools.said import fail, run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    return tmp_path


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "net.prototxt", "--iterations", "2", "--input_size", "8x12"],
        ["-model", "net.prototxt", "-iterations", "2", "-input_size", "8x12"],
        ["-model=net.prototxt", "-iterations=2", "-input-size=8x12"],
        ["--model=net.prototxt", "--iterations=2", "--input-size=8x12", "-gpu", "-1"],
    ],
)
def test_flags_as_gflags_takes_them(folder, capsys, flags):
    said = run(capsys, "time", *flags)
    assert "Testing for 2 iterations." in said


def test_unknown_flag_is_one_clear_error(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["time", "-modle", "net.prototxt"])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error: unknown flag -modle; did you mean '--model'" in error and "required" not in error


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--iterations", "0", "at least 1"),
        ("--gpu", "one", "expected a number"),
        ("--input_size", "8", "HEIGHTxWIDTH"),
        ("--input_size", "0x8", "at least 1"),
        ("--root", "here", "OLD=NEW"),
        ("--phase", "deploy", "TRAIN"),
        ("--dialect", "caffe2", "segnet"),
    ],
)
def test_wrong_values_are_told_before_anything_runs(folder, capsys, flag, value, said):
    with pytest.raises(SystemExit) as ended:
        main(["time", "--model", "net.prototxt", flag, value])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert flag in error and said in error


def test_overview_names_every_command(capsys):
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == overview
    assert all(f"\n  {name} " in overview for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m caffe_compat {command}")
    assert "=true" not in text  # the other spellings of switches


def test_unknown_command(capsys):
    assert main(["tets"]) == 2
    assert "did you mean 'test'" in capsys.readouterr().err


def test_errors_of_the_project_are_one_message(folder, capsys):
    error = fail(capsys, "time", "--model", "nothing.prototxt")
    assert error.startswith("nothing.prototxt: there is no such file")
    assert "Is a directory" in fail(capsys, "parse_log", ".", ".")


def test_no_gpu_is_an_error_where_one_is_asked_for(folder, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for number in (0, "1,0", "all"):
        assert "torch sees no CUDA device" in fail(capsys, "time", "--model", "net.prototxt", "--gpu", number)


def test_an_interrupt_ends_cleanly(capsys, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(device_query, "run", interrupted)
    assert main(["device_query"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_logging_is_left_as_it_was(capsys):
    logger = logging.getLogger("caffe_compat")
    before = logger.level, list(logger.handlers)
    main(["device_query"])
    assert (logger.level, logger.handlers) == before


def test_the_package_runs():
    done = subprocess.run(
        [sys.executable, "-m", "caffe_compat", "nothing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "unknown command 'nothing'" in done.stderr and done.stdout == ""
