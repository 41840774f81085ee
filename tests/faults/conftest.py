"""Prints a table of what the faults did, after the tests."""

from collections import Counter
from typing import Any, Protocol

import pytest

_ROWS: list[str] = []


class Report(Protocol):
    """Notes what clients saw, for how many seconds there was a fault, and the longest pause of an instance's writes."""

    def __call__(self, outcomes: Counter[str], *, lasted: float, pause: float) -> None: ...


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    def note(outcomes: Counter[str], *, lasted: float, pause: float) -> None:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        _ROWS.append(f"{request.node.name}: {lasted:.1f} s, writes paused for {pause:.1f} s; {counts}")

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _ROWS:
        terminalreporter.section("faults")
        for row in _ROWS:
            terminalreporter.write_line(row)
