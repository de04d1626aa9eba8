"""One measurement of one network, in a process of its own: what it takes is then no other's, and it may be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch

from caffe_compat.errors import RoomError

_CPU_IS_FULL = "can't allocate memory"  # torch raises a plain RuntimeError there


@dataclass(frozen=True)
class Job:
    """What to measure, and how."""

    measure: str
    """One of ``measures.MEASURES``."""
    network: str
    """One of ``segnet.networks.NETWORKS``."""
    height: int
    width: int
    classes: int
    batch: int = 1
    iterations: int = 1
    warm_up: int = 1
    """Passes that go before, unmeasured."""
    device: str = "cpu"
    precision: str = "fp32"
    engine: bool = False
    """By ``net.engine`` instead of the net itself."""


@dataclass(frozen=True)
class Layer:
    """The mean times of a layer, in milliseconds."""

    name: str
    type: str
    forward: float
    backward: float


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    """What was measured → its values: one for each iteration, or one."""
    layers: list[Layer] = field(default_factory=list)
    problem: str = ""
    """Why there is nothing."""
    too_large: bool = False
    """Whether that is for want of memory."""

    @classmethod
    def from_dict(cls, values: dict) -> Outcome:
        """Of what ``dataclasses.asdict`` gives."""
        return cls(**values | {"layers": [Layer(**layer) for layer in values["layers"]]})


Run = Callable[[Job], Outcome]


def in_own_process(job: Job) -> Outcome:
    """Measure in a new process. One that is killed, as Linux does where memory runs out, is an outcome too."""
    command = [sys.executable, "-m", "segnet.timing.child"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True)
    if done.returncode == 0:
        return Outcome.from_dict(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode == -signal.SIGKILL:
        return Outcome(problem="its process was killed, most likely because memory ran out", too_large=True)
    told = done.stderr.strip().splitlines()
    return Outcome(problem=f"its process ended with status {done.returncode}: {told[-1] if told else 'no message'}")


def is_want_of_memory(error: Exception) -> bool:
    """Whether an error says that something does not fit into memory."""
    return isinstance(error, RoomError | MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _CPU_IS_FULL in str(error)
    )
