"""Runs commands in tests, and gives what they log."""

from __future__ import annotations

import re

import pytest

from caffe_compat.__main__ import main

_GLOG = re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] ")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    """Run a command that succeeds. Returns its log lines, which all have glog's prefix, without it."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all(_GLOG.match(line) for line in lines), captured.err
    return [_GLOG.sub("", line) for line in lines]


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that fails. Returns its error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert "\nerror: " in f"\n{error}" and "Traceback" not in error
    return error.partition("error: ")[2]
