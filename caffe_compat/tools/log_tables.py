"""The outputs of a training as tables, read from its log: Caffe's own, or one that was written here."""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from prototxt.errors import FormatError, MissingFileError
from prototxt.files import replacing

#: The columns before the outputs.
LEAD = ("NumIters", "Seconds", "LearningRate")
_A_YEAR = 2000  # of lines that do not say the year: one in which every date exists
_YEAR, _HALF_A_YEAR = timedelta(days=366), timedelta(days=183)
_STAMP = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})\b")
_ITERATION = re.compile(r"\] Iteration (\d+)\b")
_RATE = re.compile(r"\] Iteration \d+, lr = (\S+)")
_TESTING = re.compile(r"Testing net \(#(\d+)\)")
_OUTPUT = re.compile(r"(Train|Test) net output #(\d+): (.+?) = (\S+)")


class Table(NamedTuple):
    """What a training put out over time, a column for each value."""

    columns: list[str]
    """Those of ``LEAD``, then the outputs in their order."""
    rows: list[dict[str, float]]
    """Column → value; what a row lacks was not in the log."""


class Tables(NamedTuple):
    """Of the training net, and of the test nets."""

    train: Table
    test: Table


class _Row(NamedTuple):
    iteration: int
    seconds: float
    outputs: dict[tuple[int, int], tuple[str, float]]
    """(test net, number of the output) → its name and value."""


def read_log(path: str | os.PathLike[str]) -> Tables:
    """The tables of a log file.

    Raises:
        MissingFileError: it is not there; FormatError: it holds no output of a net.
    """
    try:
        lines = Path(path).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: does not exist; expected the log of a training") from None
    tables = parse_log(lines)
    if not tables.train.rows and not tables.test.rows:
        raise FormatError(
            f"{path}: has no line such as `Train net output #0: loss = 1.2`; expected the log that a training writes "
            "to stderr, of a solver with `display` or `test_interval`"
        )
    return tables


def parse_log(lines: Iterable[str]) -> Tables:
    """The tables of a log. Seconds are counted from the line ``Solving …``, else from the first."""
    rows: dict[str, list[_Row]] = {"Train": [], "Test": []}
    rates: dict[int, float] = {}
    iteration, net, clock = 0, 0, _Clock()
    for line in lines:
        seconds = clock.read(line)
        if found := _ITERATION.search(line):
            iteration = int(found[1])
        if found := _RATE.search(line):
            rates[iteration] = float(found[1])
        if found := _TESTING.search(line):
            net = int(found[1])
        if found := _OUTPUT.search(line):
            which, number, name, value = found.groups()
            key = (net if which == "Test" else 0, int(number))
            own = rows[which]
            if not own or own[-1].iteration != iteration or key in own[-1].outputs:
                own.append(_Row(iteration, seconds, {}))
            own[-1].outputs[key] = (name, float(value))
    return Tables(_table(rows["Train"], rates), _table(rows["Test"], rates))


def write_csv(table: Table, path: str | os.PathLike[str]) -> None:
    """Write a table with its header."""
    with replacing(path) as draft, open(draft, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table.columns)
        writer.writeheader()
        writer.writerows(table.rows)


class _Clock:
    """Reads the time of log lines as seconds since the start."""

    def __init__(self) -> None:
        self._start: datetime | None = None
        self._last: datetime | None = None
        self._past_years = timedelta()

    def read(self, line: str) -> float:
        """The seconds at this line; for a line without a time, those of the last one."""
        if found := _STAMP.match(line):
            year, *rest = found.groups()
            now = datetime(int(year or _A_YEAR), *map(int, rest)) + self._past_years
            if year is None and self._last is not None and self._last - now > _HALF_A_YEAR:
                self._past_years += _YEAR  # a new one began
                now += _YEAR
            self._last = now
            if self._start is None or "] Solving " in line:
                self._start = now
        return (self._last - self._start).total_seconds() if self._start and self._last else math.nan


def _table(rows: Sequence[_Row], rates: dict[int, float]) -> Table:
    names = {key: name for row in rows for key, (name, _) in row.outputs.items()}
    columns = dict(
        zip(sorted(names), _columns([(net, names[net, number]) for net, number in sorted(names)]), strict=True)
    )
    table = Table([*LEAD, *columns.values()], [])
    for row in rows:
        values = {columns[key]: value for key, (_, value) in row.outputs.items()}
        lead = (row.iteration, row.seconds, _rate(row.iteration, rates))
        table.rows.append({**dict(zip(LEAD, lead, strict=True)), **values})
    return table


def _columns(names: Sequence[tuple[int, str]]) -> list[str]:
    """A name for each output: an index where a blob has several values, the test net where it is not the first."""
    counts, seen = Counter(names), Counter()
    result = []
    for net, name in names:
        index = f"[{seen[net, name]}]" if counts[net, name] > 1 else ""
        result.append(name + index + (f" (#{net})" if net else ""))
        seen[net, name] += 1
    return result


def _rate(iteration: int, rates: dict[int, float]) -> float:
    """The learning rate of an iteration: as logged for it, else for the last one before, else for the first after."""
    before = [at for at in rates if at <= iteration]
    return rates[max(before)] if before else rates[min(rates)] if rates else math.nan
