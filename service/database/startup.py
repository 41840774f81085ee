"""The pool from start to end; it waits for PostgreSQL at first."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg
from loguru import logger

from service.database.engine import DB
from service.database.migrations import pending_migrations

PATIENCE = 60.0  # seconds in which PostgreSQL may start, or get a free connection
_PASSING = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)


_T = TypeVar("_T")


@asynccontextmanager
async def pool() -> AsyncIterator[None]:
    """Opens the connection pool for the block. Raises SystemExit as ``wait_for_database`` does."""
    await _keep_trying(DB.start_connection_pool)
    if pending := await pending_migrations():
        logger.warning("Migrations are pending: {}", ", ".join(pending))
    try:
        yield
    finally:
        await DB.close_connection_pool()


async def wait_for_database() -> None:
    """Logs a line for each failed attempt to connect. Raises SystemExit, with the reason in one line, when PostgreSQL
    refuses for good or stays away."""
    connection = await _keep_trying(DB.get_new_connection)
    await connection.close()


async def _keep_trying(connect: Callable[[], Awaitable[_T]]) -> _T:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            async with asyncio.timeout(10):
                return await connect()
        except _PASSING as error:
            reason = str(error) or type(error).__name__
            if time.monotonic() > end:
                raise SystemExit(f"The database cannot be reached: {reason}") from error
            logger.warning("The database cannot be reached yet: {}", reason)
            await asyncio.sleep(2)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:  # ValueError: of its address
            raise SystemExit(f"The database cannot be used: {error}") from error
