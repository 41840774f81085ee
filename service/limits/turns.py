"""Turns for slow work: addresses are served in rotation, and so are the users of each address. Whoever sends much waits
for their own work first."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Protocol

from service.database.held import check_no_connection
from service.database.shares import ON_BEHALF_OF
from service.errors import Unavailable

PATIENCE = 30.0  # seconds for which a request waits for one turn
_LEFT = "The client closed the connection."
_Waiting = deque[asyncio.Future[None]]
_Callers = OrderedDict[Hashable, _Waiting]


class Client(Protocol):
    """The other end of the connection. Nobody tells the task of a request that it has been closed."""

    @property
    def address(self) -> str: ...

    def has_left(self) -> bool: ...


CLIENT: ContextVar[Client | None] = ContextVar("client", default=None)  # of the running request


class Turns:
    """``at_once`` pieces of work run at a time. At most ``waiting`` others wait: half of them of one address, and
    ``waiting_of_caller`` of one caller. As many again wait of addresses that have none waiting, so that others cannot
    take all places. More are refused with the detail ``refusal``. Callers are those of the shares of the database."""

    def __init__(self, at_once: int, *, waiting: int, waiting_of_caller: int, refusal: str) -> None:
        self._at_once = self._free = at_once
        self._most = waiting
        self._most_of_caller = waiting_of_caller
        self._refusal = refusal
        self._waiting: OrderedDict[str, _Callers] = OrderedDict()  # the address whose turn is next comes first

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a turn, which lasts for the block. Raises Unavailable when too many wait, after PATIENCE, and when
        the client has left meanwhile. No connection may be held."""
        check_no_connection("Waiting for a turn")
        client = CLIENT.get()
        if self._free:
            self._free -= 1
        else:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._wait(client.address if client else "", ON_BEHALF_OF.get())
            except TimeoutError:
                raise Unavailable(self._refusal) from None
        try:
            if client is not None and client.has_left():
                raise Unavailable(_LEFT)
            yield
        finally:
            self._pass_on()

    def size(self) -> int:
        """How many pieces of work run or wait."""
        return self._at_once - self._free + sum(map(_length, self._waiting.values()))

    async def _wait(self, address: str, caller: Hashable) -> None:
        callers = self._waiting.get(address, _Callers())
        of_caller = callers.get(caller, _Waiting())
        in_all = sum(map(_length, self._waiting.values()))
        if (
            in_all >= self._most * (1 if callers else 2)
            or _length(callers) >= max(1, self._most // 2)
            or len(of_caller) >= self._most_of_caller
        ):
            raise Unavailable(self._refusal)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        of_caller.append(turn)
        callers.setdefault(caller, of_caller)
        self._waiting.setdefault(address, callers)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # its turn came at the same moment
            elif turn in of_caller:
                of_caller.remove(turn)
                if not of_caller:
                    del callers[caller]
                if not callers:
                    del self._waiting[address]
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            address, callers = self._waiting.popitem(last=False)
            caller, of_caller = callers.popitem(last=False)
            turn = of_caller.popleft()
            if of_caller:
                callers[caller] = of_caller  # behind all others
            if callers:
                self._waiting[address] = callers
            if not turn.cancelled():  # else its task has not noticed yet
                turn.set_result(None)
                return
        self._free += 1


def _length(callers: _Callers) -> int:
    return sum(map(len, callers.values()))
