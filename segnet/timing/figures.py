"""Measured figures beside the paper's, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from segnet import paper

NOTHING = "–"


@dataclass(frozen=True)
class Figure:
    """One figure of one network."""

    network: str
    what: str
    unit: str
    samples: Sequence[float] = ()
    """One for each iteration, or one; none where it was not measured."""
    paper: float | None = None
    """The paper's, in the same unit."""
    problem: str = ""
    """Why it was not measured."""
    too_large: bool = False
    """Whether that is for want of memory."""

    @property
    def mean(self) -> float | None:
        """What `caffe time` calls the average."""
        return statistics.fmean(self.samples) if self.samples else None

    @property
    def ratio(self) -> float | None:
        """To the paper's figure."""
        return self.mean / self.paper if self.samples and self.paper else None

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "network": self.network,
            "what": self.what,
            "unit": self.unit,
            "paper": self.paper,
            "measured": self.mean,
            "ratio": self.ratio,
            "samples": list(self.samples),
            "problem": self.problem,
        }

    def cells(self) -> list[str]:
        """For a table; see ``HEADERS``."""
        spread = f"{number(min(self.samples))} to {number(max(self.samples))}" if len(self.samples) > 1 else ""
        missing = "does not fit" if self.too_large else "failed" if self.problem else NOTHING
        measured = number(self.mean) if self.samples else missing
        ratio = f"{self.ratio:.3g}" if self.ratio is not None else NOTHING
        return [self.network, f"{self.what}, {self.unit}", number(self.paper), measured, ratio, spread]


HEADERS = ["network", "", f"paper ({paper.MACHINE})", "measured", "of the paper's", "least to most"]


@dataclass(frozen=True)
class Table:
    """A table for people, and the same as records."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    records: Sequence[dict[str, object]]
    notes: Sequence[str] = ()
    """What is to be said below it."""
    left: int = 2
    """Columns of text, which are flush left; the others hold numbers."""
    failed: bool = field(default=False, kw_only=True)
    """Whether something in it failed for another reason than want of memory."""

    @classmethod
    def of_figures(cls, title: str, figures: Sequence[Figure]) -> Table:
        """Beside the paper's."""
        notes = dict.fromkeys(f"{one.network}, {one.what}: {one.problem}" for one in figures if one.problem)
        return cls(
            title,
            HEADERS,
            [one.cells() for one in figures],
            [one.record() for one in figures],
            list(notes),
            failed=any(one.problem and not one.too_large for one in figures),
        )

    def render(self, markdown: bool) -> str:
        """As text, or as Markdown."""
        align = ["left"] * self.left + ["right"] * (len(self.headers) - self.left)
        table = tabulate(
            self.rows,
            self.headers,
            tablefmt="github" if markdown else "simple",
            colalign=align if self.rows else None,
            disable_numparse=True,
        )
        title = f"### {self.title}" if markdown else self.title
        notes = "".join(f"{'* ' if markdown else ''}{note}\n" for note in self.notes)
        return f"{title}\n\n{table}\n" + (f"\n{notes}" if notes else "")


def number(value: float | None) -> str:
    """With so many digits as there is reason for."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
