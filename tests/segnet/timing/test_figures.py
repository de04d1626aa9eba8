"""Figures beside the paper's: means, ratios, and how they are written."""

import pytest

from segnet.timing.figures import Figure, Table, number


def test_mean_ratio_and_spread():
    figure = Figure("segnet", "forward", "ms", [10.0, 20.0, 60.0], paper=120.0)
    assert figure.mean == 30.0  # the average of `caffe time`, no median
    assert figure.ratio == 0.25
    assert figure.cells() == ["segnet", "forward, ms", "120", "30", "0.25", "10 to 60"]


def test_without_the_papers_there_is_no_ratio():
    figure = Figure("fcn", "forward", "ms", [4.0])
    assert figure.ratio is None
    assert figure.cells() == ["fcn", "forward, ms", "–", "4", "–", ""]


@pytest.mark.parametrize(
    ("problem", "too_large", "cell", "failed"),
    [("", False, "–", False), ("gone", False, "failed", True), ("out of memory", True, "does not fit", False)],
)
def test_what_was_not_measured(problem, too_large, cell, failed):
    figure = Figure("segnet", "forward", "ms", (), 422.5, problem, too_large)
    assert figure.mean is None and figure.ratio is None
    assert figure.cells() == ["segnet", "forward, ms", "422.5", cell, "–", ""]
    table = Table.of_figures("A table", [figure, figure])
    assert table.failed is failed
    assert list(table.notes) == ([f"segnet, forward: {problem}"] if problem else [])


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.123456, "0.1235"), (52.6, "52.6"), (6803.4, "6803")])
def test_number(value, text):
    assert number(value) == text


def test_markdown():
    table = Table("A table", ["a", "b", "c"], [["x", "y", "1.50"]], [], ["a note"])
    title, _, head, line, row, _, note = table.render(markdown=True).splitlines()
    assert (title, note) == ("### A table", "* a note")
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["a", "b", "c"]
    assert set(line) <= set("|-: ") and line.count("|") == 4
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["x", "y", "1.50"]
