"""asyncpg's pool, and a faster way to the connections in it that are idle."""

import asyncio
import time
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any

import asyncpg

from service.database.hosts import connect
from service.metrics import Counter
from service.settings import settings

_MAX_IDLE_TIME = 300  # seconds
_PATIENCE = 5.0  # seconds for PostgreSQL to end a statement
_PAUSE = 0.1  # seconds between attempts while PostgreSQL gives no more connections

# Of the pool, of the share of the caller, or because of the limit of the role, the database or the server
WAITS = Counter("database_pool_waits", "Times that a task had to wait for a connection.", ["for"])


async def create_pool(dsn: str) -> asyncpg.Pool:
    of_connection = {"application_name": "character-service", "timezone": "UTC"}
    return await asyncpg.create_pool(
        dsn,
        connect=_connect,
        min_size=min(2, settings.database_pool_size),
        max_size=settings.database_pool_size,
        timeout=settings.database_acquire_timeout,
        command_timeout=settings.database_statement_timeout * 2,  # the server's own time-out should come first
        connection_class=_Connection,
        # Each statement would have a timer, which keeps the request that prepared it, with its body, for five minutes
        max_cached_statement_lifetime=0,
        # In transaction mode, a pooler gives the server's connections to one client after another
        server_settings=of_connection | ({} if settings.database_direct_url else session_settings()),
    )


def _connect(dsn: str, **options: Any) -> "asyncio.Task[asyncpg.Connection]":
    """Not in the context of a request: the connection would keep that, and with it the request and its body."""
    return asyncio.create_task(connect(dsn, **options), context=Context())


def session_settings() -> dict[str, str]:
    """The settings that each connection of the pool must have, by their names in PostgreSQL."""
    seconds = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
        "idle_in_transaction_session_timeout": settings.database_idle_in_transaction_timeout,
    }
    return {
        "pg_trgm.word_similarity_threshold": "0.5",  # finds a name of five letters with one wrong letter
        "service.quota_characters": str(settings.quota_characters),  # the function add_usage reads them
        "service.quota_stored_bytes": str(settings.quota_stored_bytes),
        **{name: str(round(value * 1000)) for name, value in seconds.items()},
    }


class IdleConnections:
    """Idle connections that are not returned to asyncpg's pool, because taking one from the pool costs much more."""

    def __init__(self, pool: asyncpg.Pool, *, patience: float | None = None) -> None:
        self._pool = pool
        self._patience = patience  # seconds to wait for a connection, if not DATABASE_ACQUIRE_TIMEOUT
        self._idle: list[tuple[asyncpg.Connection, float]] = []  # each with the time since when it is idle
        self.waiting = 0  # tasks that wait for a connection from the pool
        self._is_closed = False

    def count(self) -> int:
        """The number of idle connections, here and in the pool."""
        return int(self._pool.get_idle_size()) + len(self._idle)

    async def acquire(self) -> asyncpg.Connection:
        """The connection that was used last, else one from the pool. Raises what ``Pool.acquire`` raises.

        While PostgreSQL gives no more connections to the role or the database, waits for one that is open."""
        end = time.monotonic() + (self._patience or settings.database_acquire_timeout)
        while (connection := await self._take_idle()) is None:
            try:
                return await self._acquire_from_pool(end - time.monotonic())
            except asyncpg.TooManyConnectionsError:
                if time.monotonic() + _PAUSE > end:
                    raise
            WAITS.labels("limit").inc()
            await asyncio.sleep(_PAUSE)
        return connection

    async def _take_idle(self) -> asyncpg.Connection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if is_open(connection):
                if time.monotonic() - since < _MAX_IDLE_TIME:
                    return connection
                connection.terminate()  # a firewall may have dropped it unnoticed
            await self._pool.release(connection)
        return None

    async def _acquire_from_pool(self, seconds: float) -> asyncpg.Connection:
        if self._pool.get_size() == self._pool.get_max_size():
            WAITS.labels("pool").inc()
        self.waiting += 1
        try:
            return await self._pool.acquire(timeout=seconds)
        finally:
            self.waiting -= 1

    async def release(self, connection: asyncpg.Connection, *, is_reusable: bool) -> None:
        """``is_reusable`` is false after an error or a cancellation: the pool then waits for the end of the query."""
        if is_reusable and not self.waiting and not self._is_closed:
            self._idle.append((connection, time.monotonic()))
        else:
            await self._pool.release(connection)

    async def close(self) -> None:
        """Returns all connections to the pool, now and from now on."""
        self._is_closed = True
        while self._idle:
            await self._pool.release(self._idle.pop()[0])


# The connections that the running task reads from, if they are not those of the engine's pool
READ_FROM: ContextVar[IdleConnections | None] = ContextVar("read_from", default=None)


async def end_statement(connection: asyncpg.Connection) -> None:
    """After a DataError. asyncpg prepares a statement before it looks at the values. If it refuses one, PostgreSQL
    waits for the rest of the statement, and keeps its locks until the connection is used again."""
    with suppress(asyncpg.InterfaceError, asyncpg.PostgresError, OSError, TimeoutError):  # it broke
        await connection.execute("SELECT", timeout=_PATIENCE)


def is_open(connection: asyncpg.Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False  # it broke, and the pool has taken it back


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    def get_reset_query(self) -> str:
        return ""  # saves a round trip per request; the service changes no session state outside of transactions
