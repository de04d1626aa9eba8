"""Time and memory of inference over image sizes and numbers of images, as a table and a picture."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from caffe_compat.tools.plot import empty_figure, save_figure
from segnet.timing.figures import NOTHING, Table, number
from segnet.timing.jobs import Job, Outcome
from segnet.timing.tables import MEMORY, Settings

ITERATIONS = 5
SIZES = ((90, 120), (180, 240), (360, 480), (720, 960))
BATCHES = (1, 2, 4, 8)
_HEADERS = ["network", "images", "batch", "forward, ms", "ns a pixel", "memory, MiB"]


@dataclass(frozen=True)
class Point:
    """One image size and number of images, of one network."""

    network: str
    size: tuple[int, int]
    batch: int
    over: str
    """``size`` or ``batch``: which of them is varied."""
    time: Job
    memory: Job


def points(
    networks: Iterable[str],
    settings: Settings,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = BATCHES,
) -> list[Point]:
    """Every size for one batch, and every batch at one size; those two are the settings'."""
    varied = [("size", replace(settings, size=size)) for size in sizes]
    varied += [("batch", replace(settings, batch=batch)) for batch in batches]
    return [
        Point(
            name,
            one.size,
            one.batch,
            over,
            one.job("inference", name, ITERATIONS),
            replace(one, iterations=1, warm_up=1).job("inference_memory", name),
        )
        for name in networks
        for over, one in varied
    ]


def table(title: str, found: Sequence[Point], known: Mapping[Job, Outcome]) -> Table:
    """A row for each point; the picture shows the same."""
    rows, records, notes = [], [], []
    failed = False
    for point in {(point.time, point.memory): point for point in found}.values():
        outcomes = [known.get(job, Outcome()) for job in (point.time, point.memory)]
        time, memory = (_value(outcome) for outcome in outcomes)
        height, width = point.size
        each = number(1e6 * time / (height * width * point.batch)) if time is not None else NOTHING
        rows.append([point.network, f"{height}×{width}", str(point.batch), number(time), each, number(memory)])
        problems = list(dict.fromkeys(outcome.problem for outcome in outcomes if outcome.problem))
        records.append(
            {
                "network": point.network,
                "height": height,
                "width": width,
                "batch": point.batch,
                "forward": list(outcomes[0].samples.get("forward", ())),
                "memory": memory,
                "problems": problems,
            }
        )
        notes += [f"{point.network}, {height}×{width}, batch {point.batch}: {problem}" for problem in problems]
        failed |= any(outcome.problem and not outcome.too_large for outcome in outcomes)
    return Table(title, _HEADERS, rows, records, notes, failed=failed)


def draw(found: Sequence[Point], known: Mapping[Job, Outcome], path: str | os.PathLike[str]) -> None:
    """Time and memory over the number of pixels and over that of images, both axes logarithmic.

    Raises:
        CaffeError: matplotlib is not installed, or does not know the format that the ending of the name asks for.
    """
    figure = empty_figure(path, (11, 7))
    from matplotlib.ticker import LogLocator  # an extra, which is there by now

    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    for column, over in enumerate(("size", "batch")):
        for row, what in enumerate(("time", "memory")):
            one = axes[row][column]
            for name in dict.fromkeys(point.network for point in found):
                line = sorted(
                    (_place(point), value)
                    for point in found
                    if (point.network, point.over) == (name, over)
                    and (value := _value(known.get(getattr(point, what), Outcome()))) is not None
                )
                one.plot([x for x, _ in line], [y for _, y in line], marker="o", label=name)
            if any(len(line.get_xdata()) for line in one.lines):  # matplotlib has no logarithms of nothing
                one.set(xscale="log", yscale="log")
                ticks = {_place(point): _name(point) for point in found if point.over == over}
                one.set_xticks([], minor=True)
                one.set_xticks(list(ticks), list(ticks.values()))
                one.yaxis.set_major_formatter("{x:g}")
                one.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                one.yaxis.set_minor_formatter("")
            one.grid(alpha=0.3)
    axes[0][0].set_ylabel("forward, ms")
    axes[1][0].set_ylabel("memory, MiB")
    axes[1][0].set_xlabel("image, by its pixels")
    axes[1][1].set_xlabel("images at a time")
    axes[0][0].legend()
    save_figure(figure, path)


def _place(point: Point) -> int:
    """Where a point stands across: its pixels, or its images."""
    return point.size[0] * point.size[1] if point.over == "size" else point.batch


def _name(point: Point) -> str:
    return f"{point.size[0]}×{point.size[1]}" if point.over == "size" else str(point.batch)


def _value(outcome: Outcome) -> float | None:
    """The mean of the time, or the memory; None where it was not measured."""
    found = (outcome.samples.get(sample) for sample in ("forward", *MEMORY.values()))
    return next((statistics.fmean(values) for values in found if values), None)
