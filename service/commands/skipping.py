"""A row that another transaction holds does not end a command."""

from collections.abc import Awaitable

import asyncpg
from loguru import logger

from service.database.failures import CONTENTION


async def count_unless_held(row: str, work: Awaitable[int]) -> int:
    """The result of ``work``; 0, with a line in the log, if another transaction is in its way: the next run tries
    again."""
    try:
        return await work
    except (asyncpg.ForeignKeyViolationError, *CONTENTION) as error:
        logger.warning("{} was skipped; the next run tries again: {}", row, error)
        return 0
