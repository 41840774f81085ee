"""The pool from start to end; it waits for PostgreSQL at first."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg
from loguru import logger
from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.migrations import pending_migrations
from service.database.pool import session_settings
from service.database.prepared import Param, Prepared
from service.settings import settings

PATIENCE = 60.0  # seconds in which PostgreSQL may start, or get a free connection
_PASSING = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)


_T = TypeVar("_T")


@asynccontextmanager
async def pool() -> AsyncIterator[None]:
    """Opens the connection pool for the block. Raises SystemExit as ``wait_for_database`` does."""
    await _keep_trying(DB.start_connection_pool)
    await _check_session()
    if pending := await pending_migrations():
        logger.warning("Migrations are pending: {}", ", ".join(pending))
    try:
        yield
    finally:
        await DB.close_connection_pool()


_LACKING = (
    "Connections to the database lack settings: run this as an administrator of PostgreSQL, and RECONNECT in the"
    " console of the pooler."
)

# PostgreSQL does not list settings that no module defines
_SESSION = Prepared(
    lambda: QueryString(
        "SELECT name, coalesce((SELECT setting FROM pg_settings WHERE pg_settings.name = given.name),"
        " current_setting(given.name, true)) AS setting, quote_ident(current_user) AS role,"
        " quote_ident(current_database()) AS database"
        " FROM unnest({}::text[]) AS given (name)",
        Param("names"),
    )
)


async def _check_session() -> None:
    """Finds what a pooler dropped that connections must have. Raises SystemExit if it is in transaction mode."""
    expected = session_settings()
    statements = [
        f"ALTER ROLE {row['role']} IN DATABASE {row['database']} SET {row['name']} = '{expected[row['name']]}';"
        for row in await _SESSION.all(names=list(expected))
        if row["setting"] != expected[row["name"]]
    ]
    if statements:
        text = "\n  ".join([_LACKING, *statements])
        if settings.database_direct_url:
            raise SystemExit(text)
        logger.error("{}", text)


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
