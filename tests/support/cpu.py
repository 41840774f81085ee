"""CPU time of work, for tests that bound it."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_COUNTING = 0.009  # seconds that _count takes on a quiet core of the kind that the bounds in tests are for


def is_quick(work: Callable[[], object], bound: float) -> bool:
    """Whether one run takes less CPU seconds than ``bound``. If not, the load of the machine is measured, too."""
    return seconds(work) < bound or worst_time(work, runs=1) < bound


def worst_time(work: Callable[[], object], runs: int = 5) -> float:
    """The CPU seconds of the slowest of several runs. Each is corrected for the load of the machine, which slows down
    `_count` as much. The garbage of other tests is not collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        return max(_corrected(work) for _ in range(runs))
    finally:
        gc.enable()


@contextmanager
def less_than(bound: float) -> Iterator[None]:
    """Fails unless the block takes less CPU seconds of the process than ``bound``, corrected as in ``worst_time``."""
    gc.collect()
    gc.disable()
    before, began = slowness(), time.process_time()
    try:
        yield
        taken = time.process_time() - began
    finally:
        gc.enable()
    assert taken / max(before, slowness()) < bound


def slowness() -> float:
    """How many times slower the machine is now than a quiet core: at least 1."""
    return max(1.0, seconds(_count) / _COUNTING)


def _corrected(work: Callable[[], object]) -> float:
    before = slowness()
    taken = seconds(work)
    return taken / max(before, slowness())


def _count() -> int:
    return sum(number * number % 7 for number in range(200_000))


def seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started
