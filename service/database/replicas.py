"""Reads from standbys of the primary (DATABASE_REPLICA_URLS).

Each worker asks the primary twice a second where its log ends, and each replica how much of the log it has replayed. So
it knows a time for each replica: what was committed before can be read there. A replica is left out while that time is
more than MAX_LAG seconds ago, and when it does not answer, was promoted, or belongs to another server.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from math import inf
from typing import Any, NoReturn, ParamSpec, TypeVar
from zlib import crc32

import asyncpg
from loguru import logger

from service.background import in_background
from service.database.engine import DB
from service.database.hosts import connect, name_of
from service.database.pool import READ_FROM, IdleConnections, create_pool
from service.database.shares import ON_BEHALF_OF
from service.errors import NotFound, Overloaded, ServiceError, Unavailable
from service.metrics import Counter, Gauge, sample
from service.settings import settings

MAX_LAG = 3.0  # seconds
_EVERY = 0.5  # seconds between two looks at each server
_PATIENCE = 1.0  # seconds for a server to answer a look, and for a replica to give a connection
_CONNECTING = 5.0  # seconds

# A history is a server and its timeline: after a failover, positions in the log of the old one mean nothing. A commit
# is acknowledged when its place in the log is flushed.
_END = """
SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint AS position,
    format('%s/%s', system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int)
    AS history
FROM pg_control_system()
"""
# Only with pg_read_all_stats does a standby say which timeline it receives; else it is that of its last checkpoint
_REPLAYED = """
SELECT pg_is_in_recovery() AS is_standby, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS position,
    format('%s/%s', system_identifier, coalesce((SELECT received_tli FROM pg_stat_wal_receiver), timeline_id))
    AS history
FROM pg_control_system(), pg_control_checkpoint()
"""

_READS = Counter("database_replica_reads", "Reads that were sent to a replica.", ["outcome"])
_LAG = Gauge("database_replica_lag_seconds", "How far a replica is behind.", ["replica"], multiprocess_mode="livemax")
_USED = Gauge("database_replica_used", "Whether reads go to a replica.", ["replica"], multiprocess_mode="livemin")

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Whether the caller of the running request may read what is up to MAX_LAG seconds old; None for no request
MAY_READ_REPLICA: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("may_read_replica", default=None)


class Primary:
    def __init__(self) -> None:
        self.history = ""  # empty while it does not answer
        self._ends: deque[tuple[float, int]] = deque(maxlen=20)

    def replayed(self, position: int) -> float:
        """The newest known time at which the log ended at ``position`` or before it."""
        return max((at for at, end in self._ends if end <= position), default=-inf)

    async def watch(self) -> NoReturn:
        while True:
            try:
                await self._watch()
            except Exception as error:  # whatever it is, this task must go on
                if self.history:
                    logger.warning("The log of the primary cannot be followed: {!r}", error)
                self.history = ""
            await asyncio.sleep(_EVERY)

    async def _watch(self) -> NoReturn:
        async with asyncio.timeout(_CONNECTING):
            connection = await DB.get_new_connection()  # not of the pool: when that is busy, replicas are needed most
        try:
            while True:
                at = time.monotonic()
                found = await connection.fetchrow(_END, timeout=_PATIENCE)
                if found["history"] != self.history:
                    self._ends.clear()
                    self.history = found["history"]
                self._ends.append((at, found["position"]))
                await asyncio.sleep(_EVERY)
        finally:
            connection.terminate()


class Replica:
    def __init__(self, dsn: str, primary: Primary) -> None:
        self.name = name_of(dsn)
        self.connections: IdleConnections | None = None
        self.as_of = -inf  # the monotonic time: what was committed before can be read here
        self.answered_at = -inf
        self._dsn = dsn
        self._primary = primary
        self.fault = "it has not answered yet"  # why it is left out; empty if it is not

    def is_usable(self) -> bool:
        return self.connections is not None and self.lag() <= MAX_LAG  # not the fault, which may be a look old

    def lag(self) -> float:
        return time.monotonic() - self.as_of

    async def watch(self) -> NoReturn:
        while True:
            reason = ""
            try:
                await self._watch()
            except Exception as error:  # whatever it is, this task must go on
                reason = str(error) or type(error).__name__
            self._note(f"it does not answer ({reason})")
            await asyncio.sleep(_EVERY)

    async def _watch(self) -> NoReturn:
        async with asyncio.timeout(_CONNECTING):
            connection = await connect(self._dsn)
        connection.add_termination_listener(lambda _: self._forget())
        try:
            async with asyncio.timeout(_CONNECTING):
                pool = await create_pool(self._dsn)
            try:
                self.connections = IdleConnections(pool, patience=_PATIENCE)
                while True:
                    self._look(await connection.fetchrow(_REPLAYED, timeout=_PATIENCE))
                    await asyncio.sleep(_EVERY)
            finally:
                self.connections = None
                pool.terminate()  # queries that wait for an answer fail, and run on the primary
        finally:
            self._forget()
            connection.terminate()

    def _look(self, found: asyncpg.Record) -> None:
        self.answered_at = time.monotonic()
        if not self._primary.history:
            return
        if not found["is_standby"] or found["history"] != self._primary.history:
            self._forget()
            self._note("it is no standby" if not found["is_standby"] else "it does not follow the primary")
            return
        self.as_of = max(self.as_of, self._primary.replayed(found["position"]))
        self._note("" if self.lag() <= MAX_LAG else f"it is more than {MAX_LAG:.0f} s behind")

    def _forget(self) -> None:
        self.as_of = -inf  # when it comes back, it may have replayed less

    def _note(self, fault: str) -> None:
        if fault and fault != self.fault:
            logger.warning("The replica {} is left out: {}", self.name, fault)
        elif self.fault and not fault:
            logger.info("The replica {} is used.", self.name)
        self.fault = fault


class Replicas:
    def __init__(self, urls: tuple[str, ...]) -> None:
        self._primary = Primary()
        self._all = [Replica(url, self._primary) for url in urls]
        for replica in self._all:
            sample(_LAG.labels(replica.name), replica.lag)
            sample(_USED.labels(replica.name), replica.is_usable)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Uses the replicas during the block, as soon as they are known to be usable."""
        async with AsyncExitStack() as stack:
            for watch in (self._primary.watch, *(replica.watch for replica in self._all)):
                await stack.enter_async_context(in_background(watch()))
            yield

    def left_out(self) -> dict[str, str]:
        """The reasons, by the names of the replicas that are not used."""
        return {
            each.name: each.fault or "it is not known how far it is behind"
            for each in self._all
            if not each.is_usable()
        }

    def choose(self) -> Replica | None:
        """A caller reads the same replica each time while it can be used, so no time goes backwards there."""
        usable = [replica for replica in self._all if replica.is_usable()]
        return usable[crc32(str(ON_BEHALF_OF.get()).encode()) % len(usable)] if usable else None


REPLICAS = Replicas(settings.database_replica_urls)


def from_replica(read: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Runs the read on a replica if the request allows it, and on the primary otherwise, or if the replica fails or
    finds nothing. A page behind a cursor comes from the primary: a replica might lack rows that the page before it was
    followed by. ``read`` has its query, if any, as its last argument."""
    if not settings.database_replica_urls:
        return read

    @wraps(read)
    async def read_anywhere(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        may_read_replica = MAY_READ_REPLICA.get()
        if may_read_replica is None or getattr(args[-1], "cursor", None) or not await may_read_replica():
            return await read(*args, **kwargs)
        if (replica := REPLICAS.choose()) is None:
            return await read(*args, **kwargs)
        began = time.monotonic()
        before = READ_FROM.set(replica.connections)
        try:
            found = await read(*args, **kwargs)
        except Exception as error:
            if _holds_on_primary(error, replica, began):
                raise
            _READS.labels("not found" if isinstance(error, NotFound) else "failed").inc()
            logger.debug("The replica {} failed, so the primary is read: {!r}", replica.name, error)
        else:
            _READS.labels("answered").inc()
            return found
        finally:
            READ_FROM.reset(before)
        return await read(*args, **kwargs)

    return read_anywhere


def _holds_on_primary(error: Exception, replica: Replica, began: float) -> bool:
    """Whether the primary would answer the same."""
    if isinstance(error, (TimeoutError, asyncpg.QueryCanceledError)):
        return replica.answered_at > began  # it answers others, so the query is too slow
    return isinstance(error, Overloaded) or (
        isinstance(error, ServiceError) and not isinstance(error, (NotFound, Unavailable))
    )
