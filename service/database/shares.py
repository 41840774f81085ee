"""Shares of the pool: no user, and no address without a user, holds more than a third of a worker's connections. All
users of an address hold at most two thirds together.

Further requests of the same caller wait for that caller's own, and then for those of the address, so they keep nobody
else waiting.
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from contextvars import ContextVar

from service.settings import settings

# For whom the running task uses the database: a user's id, or an address. None for the service itself
ON_BEHALF_OF: ContextVar[Hashable] = ContextVar("on_behalf_of", default=None)
# The address of the request, also if it has a user
FROM_ADDRESS: ContextVar[Hashable] = ContextVar("from_address", default=None)


class Shares:
    """At most ``most`` connections for each holder, which is a user or an address."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, holder: Hashable) -> bool:
        """Whether the holder may use one more connection; if so, it counts until it is given back."""
        held = self._held.get(holder, 0)
        if held >= self.most:
            return False
        self._held[holder] = held + 1
        return True

    async def wait(self, holder: Hashable, seconds: float) -> None:
        """Like ``take``, when the holder gives one back. First come, first served. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting = self._waiting.setdefault(holder, deque())
        waiting.append(turn)
        timer = loop.call_later(seconds, _give_up, turn)  # asyncio.timeout would take 4 µs
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(holder)  # its turn came at the same moment
            raise
        finally:
            timer.cancel()
            if turn in waiting:  # it was given up
                waiting.remove(turn)
                if not waiting:
                    del self._waiting[holder]

    def give_back(self, holder: Hashable) -> None:
        waiting = self._waiting.get(holder)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        else:
            held = self._held[holder] - 1
            if held:
                self._held[holder] = held
            else:
                del self._held[holder]
        if waiting is not None and not waiting:
            del self._waiting[holder]


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())


SHARES = Shares(max(1, settings.database_pool_size // 3))
SHARES_OF_ADDRESSES = Shares(max(1, settings.database_pool_size * 2 // 3))  # many people may be behind one address
