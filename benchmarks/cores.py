"""Which core does what: the server that is measured has one for itself; PostgreSQL and the load share the others."""

import os
import shutil
from collections.abc import Sequence

Core = tuple[int, ...]

_MINE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER: Core = tuple(_MINE[:1])
OTHERS: Core = tuple(_MINE[1:] or _MINE)
PAIR: Core = tuple(_MINE[:2])  # of two workers
ARE_FREE_FOR_TWO = len(_MINE) >= 3  # two workers, and a core for what they wait for


def pinned_to(core: Core, command: Sequence[str]) -> list[str]:
    """The command, held to those cores where the system can (Linux's ``taskset``)."""
    if not core or shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "--cpu-list", ",".join(map(str, core)), *command]


def stay_on(core: Core) -> None:
    """This process, and what it starts."""
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, core)
