"""Notifications of PostgreSQL (LISTEN), on one connection of each worker beside the pool.

A notification only says that there may be new rows. The task that waits for it then reads on from the last row that it
read. Notifications are lost while the connection is broken, so all waiting tasks are woken once it is back.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from loguru import logger

from service.background import in_background
from service.database.engine import DB

_PAUSE = 1.0  # seconds between attempts to connect
_CHECKED_EVERY = 10.0  # seconds; a connection may break without a sign
_PATIENCE = 5.0  # seconds for PostgreSQL to answer


class Notifications:
    """The notifications of one channel. ``waiting`` has the events to set, by payload."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.waiting: dict[str, set[asyncio.Event]] = {}
        self.starts = 0  # rises whenever notifications may have been missed

    @contextmanager
    def wake(self, event: asyncio.Event, payload: str) -> Iterator[None]:
        """For the block, sets ``event`` at each notification with this payload, and when some may have been missed."""
        events = self.waiting.setdefault(payload, set())
        events.add(event)
        try:
            yield
        finally:
            events.discard(event)
            if not events and self.waiting.get(payload) is events:
                del self.waiting[payload]

    def start_again(self) -> None:
        """Wakes everyone, as notifications may have been missed."""
        self.starts += 1
        for payload in self.waiting:
            self._wake(payload)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listens for the block. Connects in the background, and again whenever the connection breaks."""
        async with in_background(self._listen_until_cancelled()):
            yield

    async def _listen_until_cancelled(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # for example, no database: this task must go on
                logger.warning("Notifications cannot be received; connecting again: {!r}", error)
            await asyncio.sleep(_PAUSE)

    async def _listen(self) -> None:
        """Returns or raises when the connection breaks."""
        async with asyncio.timeout(_PATIENCE):
            connection = await DB.get_new_connection()
        broken = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: broken.set())
            async with asyncio.timeout(_PATIENCE):
                await connection.add_listener(self.channel, self._take)
            self.start_again()
            while not broken.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECKED_EVERY):
                        await broken.wait()
                    break
                await connection.execute("SELECT", timeout=_PATIENCE)
        finally:
            connection.terminate()

    def _take(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self._wake(payload)

    def _wake(self, payload: str) -> None:
        for event in self.waiting.get(payload, ()):
            event.set()
