"""The ledger of acknowledged writes under faults of one machine: nothing is lost, doubled or answered 500."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from uuid import uuid4

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
from tests.support.ledger import Run
from tests.support.servers import member_of

pytestmark = pytest.mark.faults

BEFORE = 40  # acknowledged writes before a fault, and again after it
PATIENCE = 20.0  # seconds


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
    async with member_of(stage.urls[0], f"m{uuid4().hex[:12]}") as member:
        run = Run(stage.urls, {"Authorization": member.headers["Authorization"]})
    async with run.at_work():
        await run.until_written(BEFORE, PATIENCE)
        run.instances.longest_pause = 0.0
        began = time.monotonic()
        await fault(stage)
        lasted = time.monotonic() - began
        await run.until_written(BEFORE, PATIENCE)
        pause = run.instances.longest_pause
    report(run.instances.outcomes, lasted=lasted, pause=pause)
