"""Prints a table of what the faults did, after the tests."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ledger_runs import Result

Report = Callable[[Result], None]

_ROWS: list[str] = []


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    def note(result: Result) -> None:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.most_common())
        name = request.node.name.partition("[")[2].rstrip("]")
        _ROWS.append(f"{name}: {result.lasted:.1f} s, writes paused for {result.longest_pause:.1f} s; {counts}")

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _ROWS:
        terminalreporter.section("faults")
        for row in _ROWS:
            terminalreporter.write_line(row)
