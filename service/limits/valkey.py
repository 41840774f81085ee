"""Valkey (or Redis), which all workers and hosts share: where VALKEY_URL says, and as far as it is there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from loguru import logger
from prometheus_client import Gauge

from service.settings import settings

# Seconds that one round trip may take; those under way then are the only requests that ever wait so long
PATIENCE = 0.1
_PAUSE = 1.0  # seconds until it is asked again whether it is there

_UP = Gauge("valkey_up", "Whether Valkey answers; while it does not, each worker counts for itself.")

Command = Sequence[str | int]
_Asked = tuple[Command, asyncio.Future[Any]]
_WRITE = ("SET", "service:is-there", 1, "PX", 1000)  # a replica, or one that is full, answers a mere PING


class Away(Exception):
    """Valkey does not answer, or not in time. Whether the command was done is not known."""


class Valkey:
    """One connection, and one round trip at a time: what is asked during one goes together with the next.

    Once it fails, it is away: who asks is told at once, and it is tried in the background until it answers.
    """

    def __init__(self, url: str) -> None:
        from valkey.asyncio import ConnectionPool  # a tenth of a start, for who has one

        pool = ConnectionPool.from_url(url, socket_connect_timeout=_PAUSE)
        self._connection = pool.make_connection()
        self._waiting: list[_Asked] = []
        self._sending: asyncio.Task[None] | None = None
        self.is_away = False
        _UP.set(1)

    async def ask(self, *command: str | int) -> Any:
        """What it answers. Raises Away."""
        if self.is_away:
            raise Away
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def open(self) -> None:
        """Returns once it is there, or known to be away."""
        self._sending = asyncio.create_task(self._send())
        self._waiting.append((_WRITE, asyncio.get_running_loop().create_future()))
        await asyncio.wait([self._sending], timeout=PATIENCE)

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        await self._connection.disconnect(nowait=True)

    async def _send(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                try:
                    answers = await self._round_trip([command for command, _ in asked], PATIENCE)
                except Exception as error:  # whatever it is, a limit that cannot be shared is no reason to fail
                    await self._stay_away(error, asked)
                else:
                    for (_, future), answer in zip(asked, answers, strict=True):
                        if not future.done():  # whoever asked may have gone
                            future.set_result(answer)
        finally:
            self._sending = None

    async def _stay_away(self, error: Exception, asked: list[_Asked]) -> None:
        """Until it answers again."""
        self.is_away = True
        _UP.set(0)
        logger.warning("Valkey is away, so each worker counts for itself: {!r}", error)
        for _, future in [*asked, *self._waiting]:
            if not future.done():
                future.set_exception(Away())
        self._waiting = []
        while self.is_away:
            with suppress(Exception):
                await self._round_trip([_WRITE], _PAUSE)
                self.is_away = False
            if self.is_away:
                await asyncio.sleep(_PAUSE)
        _UP.set(1)
        logger.info("Valkey is back.")

    async def _round_trip(self, commands: list[Command], patience: float) -> list[Any]:
        trip = asyncio.create_task(self._exchange(commands))
        try:
            for _ in range(2):  # when it was this process that stood still, what has come meanwhile is yet to be read
                await asyncio.wait([trip], timeout=patience / 2)
            if not trip.done():
                raise TimeoutError
            return trip.result()
        except BaseException:
            trip.cancel()
            await self._connection.disconnect(nowait=True)  # what it still answers belongs to nobody
            raise

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        return [await self._connection.read_response() for _ in commands]


valkey = Valkey(settings.valkey_url) if settings.valkey_url else None


@asynccontextmanager
async def connection() -> AsyncIterator[None]:
    """To Valkey, for the block; none without VALKEY_URL."""
    if valkey is None:
        yield
        return
    await valkey.open()
    try:
        yield
    finally:
        await valkey.close()
