"""Assigns cores: one to the measured server, the others to PostgreSQL and the load."""

import os
import shutil
from collections.abc import Sequence

Core = tuple[int, ...]

_AVAILABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER: Core = tuple(_AVAILABLE[:1])
OTHERS: Core = tuple(_AVAILABLE[1:] or _AVAILABLE)
PAIR: Core = tuple(_AVAILABLE[:2])  # for two workers
ARE_FREE_FOR_TWO = len(_AVAILABLE) >= 3  # one more for PostgreSQL and the load


def pinned_to(core: Core, command: Sequence[str]) -> list[str]:
    """The command restricted to these cores, where the system has ``taskset`` (Linux)."""
    if not core or shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "--cpu-list", ",".join(map(str, core)), *command]


def stay_on(core: Core) -> None:
    """Restricts this process and its children to these cores."""
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, core)
