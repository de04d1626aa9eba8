"""The process that one measurement has for itself: reads a job as JSON, writes the outcome as a line of JSON."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from caffe_compat.heap import keep_freed
from prototxt.errors import CaffeError
from segnet.timing.jobs import Job, Outcome, is_want_of_memory
from segnet.timing.measures import MEASURES


def attempt(job: Job) -> Outcome:
    """Measure in this process. What does not fit into memory, and what cannot be built, is an outcome."""
    try:
        return MEASURES[job.measure](job)
    except Exception as error:
        too_large = is_want_of_memory(error)
        if not (too_large or isinstance(error, CaffeError)):
            raise
        return Outcome(problem=str(error) or "out of memory", too_large=too_large)


def main() -> None:
    """The command."""
    logging.disable(logging.WARNING)
    with suppress(OSError):  # where memory runs out, Linux shall end this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    job = Job(**json.load(sys.stdin))
    if not job.engine:
        keep_freed()  # as the commands that run nets do
    print(json.dumps(asdict(attempt(job))))


if __name__ == "__main__":
    main()
