"""CPU time of work, for tests that bound it."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_COUNTING = 0.009  # seconds that _count takes on a quiet core of the kind that the bounds in tests are for
_TRIES = 10


def is_quick(work: Callable[[], object], bound: float) -> bool:
    """Whether one of up to ten runs takes less CPU seconds of this thread than ``bound``.

    Other load on the machine only adds to the time, so the quickest run tells most of the work. It is also corrected
    for the load, which slows down ``_count`` as much. The garbage of other tests is not collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        return any(_seconds(work) / slowness() < bound for _ in range(_TRIES))
    finally:
        gc.enable()


@contextmanager
def less_than(bound: float) -> Iterator[None]:
    """Fails unless the block takes less CPU seconds of the process than ``bound``, corrected as in ``is_quick``."""
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
    return max(1.0, _seconds(_count) / _COUNTING)


def _count() -> int:
    return sum(number * number % 7 for number in range(200_000))


def _seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started
