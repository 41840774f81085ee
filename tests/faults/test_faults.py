"""The ledger of acknowledged writes under faults of one machine: nothing is lost, doubled or answered 500."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import pytest

from tests.faults.conftest import Report
from tests.faults.faults import EMBEDDED, ON_A_SMALL_DISK, SEPARATE, WITH_FALSE_CLOCKS, Fault
from tests.faults.stage import (
    Stage,
    embedded_postgres,
    false_clocks,
    separate_postgres,
    small_disk,
)
from tests.support.ledger_runs import keep_ledger

pytestmark = pytest.mark.faults

PATIENCE = 30.0  # seconds


MakeStage = Callable[[], AbstractContextManager[Stage]]
STAGES: dict[MakeStage, list[Fault]] = {
    separate_postgres: SEPARATE,
    embedded_postgres: EMBEDDED,
    small_disk: ON_A_SMALL_DISK,
    false_clocks: WITH_FALSE_CLOCKS,
}
ROWS = [
    pytest.param(make, fault, id=f"{make.__name__}-{fault.__name__}")
    for make, faults in STAGES.items()
    for fault in faults
]


class Stages:
    """One at a time, as each needs much of the machine."""

    def __init__(self) -> None:
        self.present: tuple[MakeStage, Stage] | None = None
        self.stack = ExitStack()

    def get(self, make: MakeStage) -> Stage:
        if self.present is None or self.present[0] is not make:
            self.stack.close()
            self.present = make, self.stack.enter_context(make())
        return self.present[1]


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    stages = Stages()
    with stages.stack:
        yield stages


@pytest.mark.parametrize(("make", "fault"), ROWS)
async def test_what_was_acknowledged_is_there(stages: Stages, make: MakeStage, fault: Fault, report: Report) -> None:
    stage = stages.get(make)
    await stage.wait_until_whole()
    result = await keep_ledger(stage.urls, partial(fault, stage), PATIENCE)
    report(result)
    assert result.beginnings == 1, "a cursor was refused"
