"""The processor time of processes. Needs Linux."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def processor_times(process: int) -> dict[int, float]:
    """The seconds that a process and each of its descendants had of a processor, in all threads."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended
            parent = status.read_text().rpartition(")")[2].split()[1]  # the name may hold anything
            children.setdefault(int(parent), []).append(int(status.parent.name))
    times: dict[int, float] = {}
    waiting = [process]
    while waiting:
        each = waiting.pop()
        waiting += children.get(each, [])
        times[each] = 0.0
        for clock in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with suppress(OSError):
                times[each] += int(clock.read_text().split()[0]) / 1e9  # its first figure: nanoseconds on a processor
    return times


def seconds_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """What the processes of ``after`` took. Those that have ended since do not count."""
    return sum(seconds - before.get(process, 0.0) for process, seconds in after.items())
