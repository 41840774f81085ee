"""The service's Piccolo engine: transactions, and connections from the pool."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Literal

import asyncpg
from piccolo.engine.postgres import PostgresEngine, PostgresTransaction
from piccolo.querystring import QueryString

from service.database import embedded
from service.database.held import HOLD, Hold, check_no_connection
from service.database.hosts import connect
from service.database.measured import measured, summary
from service.database.pool import (
    READ_FROM,
    WAITS,
    IdleConnections,
    create_pool,
    end_statement,
    is_open,
    session_settings,
)
from service.database.shares import FROM_ADDRESS, ON_BEHALF_OF, SHARES, SHARES_OF_ADDRESSES, Shares
from service.errors import Overloaded, Unavailable
from service.settings import settings


class Transaction(PostgresTransaction):
    """Piccolo's transaction. In addition it always releases its connection, also when COMMIT fails or is cancelled."""

    engine: "Database"
    is_dry_run = False  # always rolled back

    async def __aenter__(self) -> "Transaction":
        if self._parent is not None:
            return self._parent  # type: ignore[return-value] # Piccolo's type, our object
        async with AsyncExitStack() as stack:
            self.connection = await stack.enter_async_context(self.engine.connection())
            self.transaction = self.connection.transaction()
            await measured("BEGIN", self.transaction.start())
            token = self.engine.current_transaction.set(self)
            stack.callback(self.engine.current_transaction.reset, token)
            self._held = stack.pop_all()
        return self

    async def commit(self) -> None:
        await measured("COMMIT", super().commit())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> Literal[False]:
        if self._parent is not None:
            return False
        async with self._held:
            if error is None and not (self._committed or self._rolled_back):
                await self.commit()
            elif error is not None and not self._rolled_back:
                with suppress(asyncpg.InterfaceError, asyncpg.PostgresConnectionError):  # `error` says more
                    await self.rollback()
        return False


class Database(PostgresEngine):
    """Does not connect on import, and waits for a connection for DATABASE_ACQUIRE_TIMEOUT seconds at most."""

    def __init__(self) -> None:
        self.is_embedded = not settings.database_url
        self._pool_dsn = embedded.dsn(settings.data_dir) if self.is_embedded else settings.database_url
        dsn = settings.database_direct_url or self._pool_dsn
        # The role has the time-outs of requests then, which must not end migrations and commands
        names = (
            [name for name in session_settings() if name.endswith("_timeout")] if settings.database_direct_url else []
        )
        server_settings = {"timezone": "UTC"} | dict.fromkeys(names, "0")
        super().__init__(config={"dsn": dsn, "server_settings": server_settings}, extensions=())
        self._idle: IdleConnections | None = None  # of the pool, while there is one

    async def check_version(self) -> None:
        """Does nothing: Piccolo would connect here, as soon as this module is imported."""

    def transaction(self, allow_nested: bool = True) -> Transaction:
        return Transaction(engine=self, allow_nested=allow_nested)

    @property
    def is_dry_run(self) -> bool:
        """Whether the open transaction will be rolled back at the end."""
        current = self.current_transaction.get()
        return isinstance(current, Transaction) and current.is_dry_run

    async def start_connection_pool(self, **_: Any) -> None:
        self._start_embedded_server()
        self.pool = await create_pool(self._pool_dsn)
        self._idle = IdleConnections(self.pool)

    async def close_connection_pool(self) -> None:
        if self.pool is None or self._idle is None:
            return
        pool, idle = self.pool, self._idle
        self.pool = self._idle = None
        await idle.close()
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()

    async def get_new_connection(self) -> asyncpg.Connection:
        self._start_embedded_server()
        return await connect(**self.config)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for the block: the open transaction's, else the pool's, else a new one.

        Raises Unavailable when PostgreSQL cannot be reached or all connections stay busy too long, Overloaded when the
        share of the caller or of the address does, and ConnectionHeld when the task holds a connection already: tasks
        that wait for a second one can block each other.
        """
        if (current := self.current_transaction.get()) is not None:
            yield current.connection
            return
        check_no_connection("A second connection")
        taken: list[tuple[Shares, Hashable]] = []
        try:
            if (caller := ON_BEHALF_OF.get()) is not None:
                await _take(SHARES, caller, taken)
            if (address := FROM_ADDRESS.get()) is not None:
                await _take(SHARES_OF_ADDRESSES, address, taken)
            idle = READ_FROM.get() or self._idle
            try:
                connection = await (idle.acquire() if idle else self.get_new_connection())
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise Unavailable("The database cannot be reached.") from error
            is_reusable = False
            HOLD.set(hold := Hold())
            try:
                yield connection
                is_reusable = True
            except asyncpg.DataError:
                await end_statement(connection)
                raise
            finally:
                hold.ended = True
                if is_open(connection) and connection.is_in_transaction():
                    connection.terminate()  # COMMIT failed or was cancelled, so its state is unknown
                if idle is None:
                    await connection.close()
                else:
                    await idle.release(connection, is_reusable=is_reusable)
        finally:
            for shares, holder in taken:
                shares.give_back(holder)

    def open_connections(self) -> int:
        return int(self.pool.get_size()) if self.pool else 0

    def idle_connections(self) -> int:
        """The number of open connections that no task uses."""
        return self._idle.count() if self._idle else 0

    def is_busy(self) -> bool:
        """Whether a task would have to wait for a connection."""
        return self.pool is not None and (
            self.open_connections() == self.pool.get_max_size() and not self.idle_connections()
        )

    def waiting(self) -> int:
        """The number of tasks that wait for a connection of the pool or of a share of it."""
        return (self._idle.waiting if self._idle else 0) + SHARES.waiting + SHARES_OF_ADDRESSES.waiting

    async def run_querystring(self, querystring: QueryString, in_pool: bool = True) -> Any:
        """Piccolo's, except that the queries of a transaction are measured like all others."""
        return await self._run_in_pool(*querystring.compile_string(engine_type=self.engine_type))

    async def _run_in_pool(self, query: str, args: Any = None) -> Any:
        async with self.connection() as connection:
            return await measured(summary(query), connection.fetch(query, *(args or ())))

    async def _run_in_new_connection(self, query: str, args: Any = None) -> Any:
        return await self._run_in_pool(query, args)  # which opens one without a pool, and raises Unavailable

    def _start_embedded_server(self) -> None:
        if self.is_embedded:
            embedded.start(settings.data_dir)


async def _take(shares: Shares, holder: Hashable, taken: list[tuple[Shares, Hashable]]) -> None:
    if not shares.take(holder):
        WAITS.labels("share").inc()
        try:
            await shares.wait(holder, settings.database_acquire_timeout)
        except TimeoutError:
            raise Overloaded("All database connections that such requests may use are in use.") from None
    taken.append((shares, holder))


DB = Database()
