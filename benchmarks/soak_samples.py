"""What the soak measures each minute."""

import os
import re
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx

from benchmarks.servers import resident

Sample = dict[str, float]

# Empty rows of purged characters, keys of idempotency, entries of the audit and dead rows: for a day or for 30 days
GROWING = ("database, MiB",)

_QUEUES = {
    "messages in the outbox": "outbox_messages",
    "pictures that wait": "pictures_queued",
    "waiting for a connection": "database_pool_waiting",
    "lag of the feed, s": "feed_lag_seconds",
}


async def sample(client: httpx.AsyncClient, parent: int, dsn: str, data: Path) -> Sample:
    """Of the workers of ``parent``, the database and the directory of files."""
    workers = _workers(parent)
    taken = {f"worker {number}, MiB": resident(each) for number, each in enumerate(workers, 1)}
    taken["parent, MiB"] = resident(parent)
    for number, each in enumerate(workers, 1):
        taken[f"worker {number}, descriptors"] = _descriptors(each)
    taken["parent, descriptors"] = _descriptors(parent)
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "soak"})
    try:
        backends = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND application_name <> 'soak'"
        )
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    taken["PostgreSQL connections"] = len(backends)
    taken["their private memory, MiB"] = sum(_private(row["pid"]) for row in backends)
    taken["files in storage"] = sum(len(files) for _, _, files in os.walk(data / "files"))
    metrics = (await client.get("/metrics")).text
    for name, metric in _QUEUES.items():
        found = re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)
        taken[name] = sum(map(float, found))
    taken["database, MiB"] = size / 1024**2
    return taken


def _workers(parent: int) -> list[int]:
    """The processes that serve, by their number. With one worker, ``parent`` itself does."""
    children = [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    spawned = [each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return sorted(spawned) or [parent]


def _descriptors(process: int) -> float:
    return len(os.listdir(f"/proc/{process}/fd"))


def _private(process: int) -> float:
    """In MiB. 0 if the process has ended."""
    with suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0
