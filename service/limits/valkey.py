"""The connection to Valkey (or Redis) at VALKEY_URL, which all workers and hosts share."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from loguru import logger

from service.metrics import Gauge, sample
from service.settings import settings

# Seconds for one round trip. When Valkey fails, only the requests of that round trip wait so long
PATIENCE = 0.1
_PAUSE = 1.0  # seconds between attempts to reach it again

Command = Sequence[str | int]
_Pending = tuple[Command, asyncio.Future[Any]]
_WRITE = ("SET", "service:is-there", 1, "PX", 1000)  # a replica or a full server also answers PING


class Away(Exception):
    """Valkey did not answer in time. It may have executed the command."""


class Valkey:
    """One connection with one round trip at a time: commands that arrive meanwhile go together in the next.

    After a failure Valkey is away: commands fail at once, and a background task retries until it answers.
    """

    def __init__(self, url: str) -> None:
        from valkey.asyncio import ConnectionPool  # imported only where it is used: it takes a tenth of the start-up

        pool = ConnectionPool.from_url(url, socket_connect_timeout=_PAUSE)
        self._connection = pool.make_connection()
        self._waiting: list[_Pending] = []
        self._sending: asyncio.Task[None] | None = None
        self.is_away = False
        self.since = time.monotonic()  # when it answered again: since then it has lost nothing

    def is_there(self) -> bool:
        return not self.is_away

    async def ask(self, *command: str | int) -> Any:
        """The answer to the command. Raises Away."""
        if self.is_away:
            raise Away
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def open(self) -> None:
        """Returns once Valkey answers, or is known to be away."""
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
                batch, self._waiting = self._waiting, []
                try:
                    answers = await self._round_trip([command for command, _ in batch], PATIENCE)
                except Exception as error:  # with any error, counting locally is better than failing
                    await self._stay_away(error, batch)
                else:
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():  # the request may be cancelled
                            future.set_result(answer)
        finally:
            self._sending = None

    async def _stay_away(self, error: Exception, batch: list[_Pending]) -> None:
        """Returns when Valkey answers again."""
        self.is_away = True
        logger.warning("Valkey is away, so each worker counts for itself: {!r}", error)
        for _, future in [*batch, *self._waiting]:
            if not future.done():
                future.set_exception(Away())
        self._waiting = []
        while self.is_away:
            with suppress(Exception):
                await self._round_trip([_WRITE], _PAUSE)
                self.is_away, self.since = False, time.monotonic()
            if self.is_away:
                await asyncio.sleep(_PAUSE)
        logger.info("Valkey is back.")

    async def _round_trip(self, commands: list[Command], patience: float) -> list[Any]:
        trip = asyncio.create_task(self._exchange(commands))
        try:
            for _ in range(2):  # if this process was stalled, the answer may have arrived unread
                await asyncio.wait([trip], timeout=patience / 2)
            if not trip.done():
                raise TimeoutError
            return trip.result()
        except BaseException:
            trip.cancel()
            await self._connection.disconnect(nowait=True)  # a late answer would be taken for that of the next command
            raise

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        return [await self._connection.read_response() for _ in commands]


valkey = Valkey(settings.valkey_url) if settings.valkey_url else None
if valkey is not None:
    # Of several workers, 0 if it is away for one
    _up = Gauge("valkey_up", "Whether Valkey answers; else each worker counts for itself.", multiprocess_mode="livemin")
    sample(_up, valkey.is_there)


@asynccontextmanager
async def connection() -> AsyncIterator[None]:
    """Connects to Valkey for the block; does nothing without VALKEY_URL."""
    if valkey is None:
        yield
        return
    await valkey.open()
    try:
        yield
    finally:
        await valkey.close()
