"""PostgreSQL as the service uses it: one engine and one pool, which nothing waits for without end."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from copy import copy
from typing import Any, Literal

import asyncpg
from piccolo.engine.postgres import PostgresEngine, PostgresTransaction

from service.database import embedded
from service.database.held import HOLD, Hold, check_no_connection
from service.errors import ServiceError, Unavailable
from service.settings import settings

_FRESH = 300  # seconds


class Transaction(PostgresTransaction):
    """Piccolo's transaction, but one that always gives its connection back, also when COMMIT fails or is cancelled."""

    engine: "Database"
    is_dry_run = False  # always rolled back

    async def __aenter__(self) -> "Transaction":
        if self._parent is not None:
            return self._parent  # type: ignore[return-value] # Piccolo's type, our object
        async with AsyncExitStack() as stack:
            self.connection = await stack.enter_async_context(self.engine.connection())
            self.transaction = self.connection.transaction()
            await self.transaction.start()
            token = self.engine.current_transaction.set(self)
            stack.callback(self.engine.current_transaction.reset, token)
            self._held = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> Literal[False]:
        if self._parent is not None:
            return False
        async with self._held:
            if error is None and not (self._committed or self._rolled_back):
                await self.commit()
            elif error is not None and not self._rolled_back:
                with suppress(asyncpg.InterfaceError, asyncpg.PostgresConnectionError):  # it broke: error tells more
                    await self.rollback()
        return False


class Database(PostgresEngine):
    """Never connects on import, never waits for ever, never leaks a connection."""

    def __init__(self) -> None:
        private = not settings.database_url
        dsn = embedded.dsn(settings.data_dir) if private else settings.database_url
        self.private = private
        super().__init__(config={"dsn": dsn, "server_settings": {"timezone": "UTC"}}, extensions=())
        self._at_hand: list[tuple[asyncpg.Connection, float]] = []  # taken from the pool, free, and since when
        self._waiting = 0  # those who ask the pool for one

    async def check_version(self) -> None:
        """Piccolo would connect here, that is, whenever this module is imported."""

    def transaction(self, allow_nested: bool = True) -> Transaction:
        return Transaction(engine=self, allow_nested=allow_nested)

    @property
    def is_dry_run(self) -> bool:
        """Whether the open transaction will be rolled back at the end."""
        current = self.current_transaction.get()
        return isinstance(current, Transaction) and current.is_dry_run

    async def start_connection_pool(self, **_: Any) -> None:
        self._start_private_server()
        milliseconds = {
            "statement_timeout": settings.database_statement_timeout,
            "lock_timeout": settings.database_lock_timeout,
            "idle_in_transaction_session_timeout": settings.database_idle_in_transaction_timeout,
        }
        self.pool = await asyncpg.create_pool(
            self.config["dsn"],
            min_size=min(2, settings.database_pool_size),
            max_size=settings.database_pool_size,
            timeout=settings.database_acquire_timeout,
            command_timeout=settings.database_statement_timeout * 2,  # the server's own time-out should come first
            connection_class=_Connection,
            server_settings={
                "application_name": "character-service",
                "timezone": "UTC",
                "pg_trgm.word_similarity_threshold": "0.5",  # forgives a name of five letters one that is wrong
                **{name: str(round(seconds * 1000)) for name, seconds in milliseconds.items()},
            },
        )

    async def close_connection_pool(self) -> None:
        if self.pool is None:
            return
        while self._at_hand:
            await self.pool.release(self._at_hand.pop()[0])
        pool, self.pool = self.pool, None
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()

    async def get_new_connection(self) -> asyncpg.Connection:
        self._start_private_server()
        return await super().get_new_connection()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for the block: the open transaction's, else the pool's, else a new one.

        Raises Unavailable when PostgreSQL cannot be reached or all connections stay busy too long, and ConnectionHeld
        when the task holds a connection already: tasks that wait for a second one can block each other.
        """
        if (current := self.current_transaction.get()) is not None:
            yield current.connection
            return
        check_no_connection("A second connection")
        try:
            connection = await (self._take(pool) if (pool := self.pool) else self.get_new_connection())
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable("The database cannot be reached.") from error
        sound = False
        HOLD.set(hold := Hold())
        try:
            yield connection
            sound = True
        finally:
            hold.ended = True
            if _is_open(connection) and connection.is_in_transaction():
                connection.terminate()  # its COMMIT failed or was cut short: nobody knows what state it is in
            if pool is None:
                await connection.close()
            elif sound and not self._waiting and pool is self.pool:
                self._at_hand.append((connection, time.monotonic()))
            else:
                await pool.release(connection)  # which sees to a query that was cut short

    def idle_connections(self) -> int:
        """How many are open and free."""
        return (self.pool.get_idle_size() if self.pool else 0) + len(self._at_hand)

    async def _take(self, pool: asyncpg.Pool) -> asyncpg.Connection:
        """One at hand, which costs nothing, else one of the pool's. A connection that lay too long may be dead without
        knowing it."""
        while self._at_hand:
            connection, since = self._at_hand.pop()
            if _is_open(connection):
                if time.monotonic() - since < _FRESH:
                    return connection
                connection.terminate()
            await pool.release(connection)
        self._waiting += 1
        try:
            return await pool.acquire(timeout=settings.database_acquire_timeout)
        finally:
            self._waiting -= 1

    async def _run_in_pool(self, query: str, args: Any = None) -> Any:
        async with self.connection() as connection:
            return await connection.fetch(query, *(args or ()))

    def _start_private_server(self) -> None:
        if self.private:
            embedded.start(settings.data_dir)


def _is_open(connection: asyncpg.Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False  # it broke, and the pool has taken it back by itself


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    def get_reset_query(self) -> str:
        return ""  # a round trip per request; we leave no session state behind outside transactions


DB = Database()


@asynccontextmanager
async def pool() -> AsyncIterator[None]:
    """The pool, for the block."""
    await DB.start_connection_pool()
    try:
        yield
    finally:
        await DB.close_connection_pool()


@contextmanager
def on_constraint(errors: Mapping[str, ServiceError]) -> Iterator[None]:
    """A constraint that PostgreSQL found broken, by name, becomes the error that tells a client so."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        if error.constraint_name in errors:
            raise copy(errors[error.constraint_name]) from None  # raised again, one instance would grow its traceback
        raise
