"""The paper's figures, against its tables."""

import pytest

from segnet.paper import TABLE_1, TABLE_6
from tests.shared import SHARED, needs_shared


def _rows(number):
    """Name → figures of a table."""
    text = (SHARED / "paper.md").read_text("utf-8")
    section = text.partition(f"## Table {number}:")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {name: [None if cell == "n/a" else float(cell) for cell in cells] for name, *cells in lines[2:]}


def _ours(name):
    """A row's name in the paper without dashes and capitals, as ours without underscores."""
    return name.split(" (")[0].replace("-", "").lower()


@needs_shared
@pytest.mark.parametrize(("number", "ours"), [(1, TABLE_1), (6, TABLE_6)])
def test_every_figure_is_the_papers(number, ours):
    rows = {_ours(name): figures for name, figures in _rows(number).items()}
    flat = {}
    for name, row in ours.items():
        key = name.removesuffix("_learnt_deconvolution").replace("_", "")
        flat[key] = [one for part in row for one in (part if isinstance(part, tuple) else (part,))]
    assert flat == rows
    assert {len(row) for row in flat.values()} == {{1: 11, 6: 5}[number]}
