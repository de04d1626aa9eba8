"""The process that one measurement has for itself: reads a job as JSON, writes the outcome as a line of JSON."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

from caffe_compat.errors import RoomError
from prototxt.errors import CaffeError
from segnet.timing.jobs import Job, Outcome
from segnet.timing.measures import MEASURES

_CPU_IS_FULL = "can't allocate memory"  # torch raises a plain RuntimeError there


def attempt(job: Job) -> Outcome:
    """Measure in this process. What does not fit into memory, and what cannot be built, is an outcome."""
    try:
        return MEASURES[job.measure](job)
    except RoomError as error:
        return Outcome(problem=str(error), too_large=True)
    except CaffeError as error:
        return Outcome(problem=str(error))
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        is_full = isinstance(error, MemoryError | torch.OutOfMemoryError) or _CPU_IS_FULL in str(error)
        if not is_full:
            raise
        return Outcome(problem=str(error).splitlines()[0] if str(error) else "out of memory", too_large=True)


def main() -> None:
    """The command."""
    logging.disable(logging.WARNING)
    with suppress(OSError):  # where memory runs out, Linux shall end this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    print(json.dumps(asdict(attempt(Job(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
