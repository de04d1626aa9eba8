"""Curves of a training: losses, and everything else that its nets put out, against the iterations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from caffe_compat.tools.log_tables import LEAD, Table, Tables
from prototxt.errors import CaffeError
from prototxt.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_tables(tables: Tables, path: str | os.PathLike[str]) -> None:
    """Draw a picture; the ending of its name chooses the format.

    Raises:
        CaffeError: matplotlib is not installed, or does not know the format.
    """
    figure = empty_figure(path, (11, 7))
    losses, others = figure.subplots(2, 1, sharex=True)
    curves = [
        (which, table, column) for which, table in tables._asdict().items() for column in table.columns[len(LEAD) :]
    ]
    colors = {column: f"C{number}" for number, column in enumerate(dict.fromkeys(column for *_, column in curves))}
    for which, table, column in curves:
        axes = losses if "loss" in column.lower() else others
        style = {"marker": "o", "linestyle": "--"} if which == "test" else {}
        width = 0.5 if "[" in column else 1.5  # one of many values of a blob
        axes.plot(*_points(table, column), label=f"{which} {column}", color=colors[column], linewidth=width, **style)
    for axes, label in ((losses, "loss"), (others, "accuracy")):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    others.set_xlabel("iteration")
    save_figure(figure, path)


def plot_losses(logs: Mapping[str, Tables], path: str | os.PathLike[str]) -> None:
    """Draw the training losses of several logs into one picture.

    Args:
        logs: what to call a log → its tables.
        path: as for ``plot_tables``, with its errors.
    """
    figure = empty_figure(path, (11, 5))
    axes = figure.subplots()
    for name, tables in logs.items():
        for column in [column for column in tables.train.columns if "loss" in column.lower()]:
            axes.plot(*_points(tables.train, column), label=f"{name}: {column}")
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def empty_figure(path: str | os.PathLike[str], size: tuple[int, int]) -> Figure:
    """An empty picture, ``size`` in inches, to be saved as ``path``; the ending of its name chooses the format.

    Raises:
        CaffeError: matplotlib is not installed, or does not know the format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CaffeError(
            f"{path}: curves are drawn by matplotlib, which is not installed. Install it with "
            '`pip install "caffe-segnet[plot]"` (or `pip install matplotlib`)'
        ) from None
    figure = Figure(figsize=size, layout="constrained")
    if _ending(path) not in figure.canvas.get_supported_filetypes():
        raise CaffeError(f"{path}: pictures cannot be written as {_ending(path)!r}; expected a name such as curves.png")
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture. Raises MissingFileError where there is no such folder."""
    with replacing(path) as draft:
        figure.savefig(draft, format=_ending(path), dpi=120)


def _ending(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(path)[1].lstrip(".").lower()


def _points(table: Table, column: str) -> tuple[list[float], list[float]]:
    points = [(row["NumIters"], row[column]) for row in table.rows if column in row]
    return [x for x, _ in points], [y for _, y in points]
