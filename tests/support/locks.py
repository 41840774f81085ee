"""Waits until transactions of other tasks wait for locks."""

import asyncio
from contextvars import Context
from typing import Any

from service.database.engine import DB

PATIENCE = 5.0  # seconds


async def until_waiting(*tasks: "asyncio.Task[Any]") -> None:
    """Returns when each task has ended or its transaction waits for a lock. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            waiting = await asyncio.create_task(_count_waiting(), context=Context())  # outside of an open transaction
            if waiting >= sum(not task.done() for task in tasks):
                return
            await asyncio.sleep(0.005)


async def _count_waiting() -> int:
    (row,) = await DB._run_in_pool("SELECT count(DISTINCT pid) AS number FROM pg_locks WHERE NOT granted")
    return int(row["number"])
