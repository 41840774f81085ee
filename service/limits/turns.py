"""Turns for slow work: callers are served in rotation, so whoever sends much waits for their own work first."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar

from service.database.shares import ON_BEHALF_OF
from service.errors import Unavailable

# Whether the client of the running request has closed its connection. Nobody tells the task of the request
HAS_LEFT: ContextVar[Callable[[], bool]] = ContextVar("has_left", default=lambda: False)

_LEFT = "The client closed the connection."
_Waiting = deque[asyncio.Future[None]]


class Turns:
    """``at_once`` pieces of work run at a time. At most ``waiting`` others wait, of one caller ``waiting_of_caller``;
    any more are refused with the detail ``refusal``. Callers are users and addresses, as for the database's shares."""

    def __init__(self, at_once: int, *, waiting: int, waiting_of_caller: int, refusal: str) -> None:
        self._at_once = self._free = at_once
        self._most = waiting
        self._most_of_caller = waiting_of_caller
        self._refusal = refusal
        self._waiting: OrderedDict[Hashable, _Waiting] = OrderedDict()  # the caller whose turn is next comes first

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a turn, which lasts for the block. Raises Unavailable when too many wait, and when the client has
        left meanwhile."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(ON_BEHALF_OF.get())
        try:
            if HAS_LEFT.get()():
                raise Unavailable(_LEFT)
            yield
        finally:
            self._pass_on()

    def size(self) -> int:
        """How many pieces of work run or wait."""
        return self._at_once - self._free + self._waiting_in_all()

    def _waiting_in_all(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def _wait(self, caller: Hashable) -> None:
        of_caller = self._waiting.get(caller, _Waiting())
        if self._waiting_in_all() >= self._most or len(of_caller) >= self._most_of_caller:
            raise Unavailable(self._refusal)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        of_caller.append(turn)
        self._waiting.setdefault(caller, of_caller)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # its turn came at the same moment
            elif turn in of_caller:
                of_caller.remove(turn)
                if not of_caller:
                    del self._waiting[caller]
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            caller, of_caller = self._waiting.popitem(last=False)
            turn = of_caller.popleft()
            if of_caller:
                self._waiting[caller] = of_caller  # behind all others
            if not turn.cancelled():  # else its task has not noticed yet
                turn.set_result(None)
                return
        self._free += 1
