"""The paper's tables 1 and 6 on this machine: `python -m segnet.timing --help`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from prototxt.errors import CaffeError
from prototxt.files import replacing
from segnet.timing import against, scaling
from segnet.timing.arguments import TABLES, check, networks, parser
from segnet.timing.figures import Table
from segnet.timing.jobs import Run, in_own_process, is_want_of_memory
from segnet.timing.machine import describe
from segnet.timing.tables import (
    TABLE_1_ITERATIONS,
    TABLE_6_ITERATIONS,
    Settings,
    figures,
    layer_table,
    measure,
    table_1,
    table_6,
)  # fmt: skip

_STOPPED = 130  # the exit status of a command that Ctrl-C ended


class _Found(NamedTuple):
    """What one way of measuring came to."""

    tables: list[Table]
    complete: bool
    """False after Ctrl-C."""
    draw: Callable[[], None] | None = None
    """Draws the picture of it, if there is one."""


def main(arguments: Sequence[str] | None = None, run: Run = in_own_process) -> int:
    """The command. Returns the exit status: 1 where something failed for another reason than want of memory."""
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        settings = check(args)
        about = describe(args.device)
        mode = _against if args.against else _scaling if args.scaling else _paper
        tables, complete, draw = mode(args, settings, run)
        print("\n".join(f"{name}: {value}" for name, value in about.items()) + "\n")
        print("\n".join(table.render(args.markdown) for table in tables))
        if args.json:
            _write_json(args.json, about, settings, tables, complete)
        if draw:
            draw()
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not complete:
        print("stopped: the tables hold what was measured by then", file=sys.stderr)
        return _STOPPED
    return int(any(table.failed for table in tables))


def _paper(args: argparse.Namespace, settings: Settings, run: Run) -> _Found:
    """The paper's tables."""
    makers = {6: (table_6, TABLE_6_ITERATIONS), 1: (table_1, TABLE_1_ITERATIONS)}
    cells = {
        number: makers[number][0](networks(args, number), settings)
        for number in ([args.table] if args.table else TABLES)
    }
    layered = dict.fromkeys(cell.network for each in cells.values() for cell in each) if args.per_layer else ()
    passes = {name: settings.job("training_passes", name, TABLE_6_ITERATIONS) for name in layered}
    known, complete = measure([*(cell.job for each in cells.values() for cell in each), *passes.values()], run)
    tables = [
        Table.of_figures(_title(f"Table {number}", makers[number][1], settings), figures(each, known))
        for number, each in cells.items()
    ]
    tables += [layer_table(name, known[job].layers) for name, job in passes.items() if job in known]
    return _Found(tables, complete)


def _against(args: argparse.Namespace, settings: Settings, run: Run) -> _Found:
    """The contenders take turns in this process, so ``run`` is not for them.

    A network of several that cannot be measured is a table that says why, so that the others' are not lost.
    """
    others = [*args.against, "engine"]
    tables: list[Table] = []
    for name in networks(args):
        height, width = settings.size
        title = f"{name}: {height}×{width}, {settings.classes} classes, batch {settings.batch}, {settings.device}"
        failed = False
        try:
            took = against.compare(name, others, settings, args.weights)
        except KeyboardInterrupt:
            return _Found(tables, False)
        except Exception as error:
            failed = not is_want_of_memory(error)
            if failed and not (isinstance(error, CaffeError) and len(networks(args)) > 1):
                raise
            took = [against.Turns(against.BASE, problem=str(error))]
        title += f"; {settings.iterations or against.ROUNDS} turns"
        tables.append(replace(against.table(title, name, took), failed=failed))
    return _Found(tables, True)


def _scaling(args: argparse.Namespace, settings: Settings, run: Run) -> _Found:
    points = scaling.points(networks(args), settings, args.sizes or scaling.SIZES, args.batches or scaling.BATCHES)
    known, complete = measure([job for point in points for job in (point.time, point.memory)], run)
    title = _title("Inference over sizes, and over batches", scaling.ITERATIONS, settings)
    table = scaling.table(title, points, known)
    return _Found([table], complete, lambda: scaling.draw(points, known, args.scaling))


def _title(what: str, iterations: int, settings: Settings) -> str:
    height, width = settings.size
    return (
        f"{what}: {height}×{width}, {settings.classes} classes, batch {settings.batch}, {settings.precision}, "
        f"{'engine' if settings.engine else 'faithful'}, {settings.device}; "
        f"{settings.iterations or iterations} iterations after {settings.warm_up} unmeasured"
    )


def _write_json(path: Path, about: dict[str, str], settings: Settings, tables: Sequence[Table], complete: bool) -> None:
    content = {
        "machine": about,
        "settings": asdict(settings),
        "complete": complete,
        "tables": [{"title": table.title, "records": list(table.records)} for table in tables],
    }
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
