"""Memory that is freed stays with the process, or goes; each case in a process of its own, as it is for good."""

import ctypes
import subprocess
import sys

import pytest

from caffe_compat.training import solver
from tests.caffe_compat.training.nets import lay_out

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc, which is not here"
)

_MIB = 64
_PROGRAM = """
import resource
from pathlib import Path
import torch
from caffe_compat.heap import give_back, keep_freed
def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({mib} << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
{before}
for _ in range(12):  # glibc 2.36 takes up to six such blocks anew before it finds one again
    fill()
least = resident()
{after}
print(fill(), (resident() - least) // 1024)
"""


def _run(before="", after=""):
    program = _PROGRAM.format(mib=_MIB, before=before, after=after)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    faults, growth = map(int, ran.stdout.split())
    return faults, growth


def test_by_default_large_blocks_are_mapped_anew():
    faults, _ = _run()
    assert faults > _MIB / 2  # one for each 2 MiB at least, where the system has pages of that size


def test_what_is_freed_is_found_again():
    faults, growth = _run("keep_freed()")
    assert faults < _MIB / 8
    assert growth < _MIB / 8


def test_it_can_be_given_back():
    faults, _ = _run("keep_freed()", "give_back()")
    assert faults > _MIB / 2


@pytest.mark.parametrize(
    ("options", "keeps"),
    [({}, True), ({"channels_last": True}, True), ({"checkpointing": True}, False), ({"fit_memory": 1 << 30}, False)],
)
def test_a_solver_keeps_memory_unless_it_is_to_take_little(tmp_path, monkeypatch, options, keeps):
    calls = []
    monkeypatch.setattr(solver, "keep_freed", lambda: calls.append("kept"))
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    solver.Solver("solver.prototxt", **options).step(1)
    assert bool(calls) == keeps
