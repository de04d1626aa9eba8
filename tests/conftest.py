"""What all tests share: where nets run, and the report of what was skipped, and why."""

from __future__ import annotations

from collections import Counter

import pytest

from caffe_compat import device


@pytest.fixture(autouse=True)
def nobody_chose_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """``set_mode_cpu`` and its like are for the whole process; each test begins without."""
    monkeypatch.setattr(device, "_mode", None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end how many tests were skipped for which reason, so that a gap is seen."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    terminalreporter.write_line(f"{sum(reasons.values())} tests skipped" + (":" if reasons else ""))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} x {reason}")
