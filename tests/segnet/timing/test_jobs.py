"""A measurement in a process of its own, and what is told of one that ends otherwise."""

import subprocess
import sys

import pytest
import torch

from caffe_compat.errors import NetError, RoomError
from segnet.timing import child, jobs
from segnet.timing.jobs import Job, Outcome, in_own_process, is_want_of_memory

JOB = Job("inference", "segnet_basic", 32, 48, 3, iterations=2)


def test_a_process_measures():
    outcome = in_own_process(JOB)
    assert outcome.problem == ""
    assert len(outcome.samples["forward"]) == 2
    assert min(outcome.samples["forward"]) > 0


def _instead(monkeypatch, code):
    """Let this program run in place of the child."""
    run = subprocess.run
    monkeypatch.setattr(jobs.subprocess, "run", lambda _, **keywords: run([sys.executable, "-c", code], **keywords))


def test_a_process_that_is_killed_did_not_fit(monkeypatch):
    _instead(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    outcome = in_own_process(JOB)
    assert outcome.too_large and "was killed" in outcome.problem


def test_another_end_is_told(monkeypatch):
    _instead(monkeypatch, "raise ValueError('of all things')")
    assert in_own_process(JOB) == Outcome(problem="its process ended with status 1: ValueError: of all things")


def test_what_comes_back_is_what_was_measured(monkeypatch):
    _instead(
        monkeypatch,
        """
import json, sys
told = json.load(sys.stdin)
print("a line of a library")
layer = {"name": told["network"], "type": "Input", "forward": 1.0, "backward": 2.0}
print(json.dumps({"samples": {"forward": [told["height"], 0.5]}, "layers": [layer], "problem": "", "too_large": False}))
""",
    )
    expected = Outcome({"forward": [32, 0.5]}, [jobs.Layer("segnet_basic", "Input", 1.0, 2.0)])
    assert in_own_process(JOB) == expected


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (RoomError("no room"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 byte"), True),
        (RuntimeError("shapes"), False),
        (NetError("no net"), False),
    ],
)
def test_want_of_memory(monkeypatch, error, wanted):
    assert is_want_of_memory(error) is wanted

    def fail(job):
        raise error

    monkeypatch.setitem(child.MEASURES, JOB.measure, fail)
    if wanted or isinstance(error, NetError):
        assert child.attempt(JOB) == Outcome(problem=str(error) or "out of memory", too_large=wanted)
    else:
        with pytest.raises(RuntimeError, match="shapes"):
            child.attempt(JOB)
