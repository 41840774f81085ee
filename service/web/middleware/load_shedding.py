"""No more work at once than one worker does well: what comes on top is refused early, while refusing is cheap.

A request counts while it is worked on, not while it waits for its client: a thousand slow clients take nobody's place.
One address has at most half of the places, so that whatever it does, there is room for others.
"""

import asyncio
import resource
import time
from collections import Counter
from typing import Any

import prometheus_client
from litestar.types import ASGIApp, Message, Receive, Send

from service.errors import BadRequest, Overloaded, RequestTimeout
from service.limits.rate_limits import network_of

BODY_PATIENCE = 30.0  # seconds in which a body must have come,
BODY_RATE = 16 * 1024  # and one more for each so many bytes that did

# Refusals are paced: to who asks again at once, as many do, a worker would soon do nothing but refuse
_REFUSALS = 200  # a second
_LONGEST_PAUSE = 5.0  # seconds

_SHED = prometheus_client.Counter("requests_shed", "Requests refused because this worker had enough to do.")
_IN_FLIGHT = prometheus_client.Gauge("requests_in_flight", "Requests that this worker works on.")


def allow_many_connections() -> None:
    """As many as the system lets this process have; the usual soft limit, 1,024, is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class LoadShedding:
    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self.in_flight = 0
        self._of_address: Counter[str] = Counter()
        self._next_refusal = 0.0
        _IN_FLIGHT.set_function(lambda: self.in_flight)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        address = network_of(scope["client"][0]) if scope.get("client") else "-"
        if not self.has_place_for(address):
            await self._pause()
            self.shed()
        client = _Client(self, address, receive, send)
        self.enter(address)
        try:
            await self.app(scope, client.receive, client.send)
        finally:
            self.leave(address)

    def has_place_for(self, address: str) -> bool:
        return self.in_flight < self.most and self._of_address[address] < (self.most + 1) // 2

    def enter(self, address: str) -> None:
        self.in_flight += 1
        self._of_address[address] += 1

    def leave(self, address: str) -> None:
        self.in_flight -= 1
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def shed(self) -> None:
        _SHED.inc()
        raise Overloaded

    async def _pause(self) -> None:
        now = time.monotonic()
        self._next_refusal = min(max(now, self._next_refusal + 1 / _REFUSALS), now + _LONGEST_PAUSE)
        await asyncio.sleep(self._next_refusal - now)


class _Client:
    """``receive`` and ``send`` of one request, which for as long as they wait is not worked on."""

    def __init__(self, shedding: LoadShedding, address: str, receive: Receive, send: Send) -> None:
        self._shedding = shedding
        self._address = address
        self._receive = receive
        self._send = send
        self._is_read = False
        self._until = time.monotonic() + BODY_PATIENCE

    async def receive(self) -> Any:
        """Raises RequestTimeout when the body dribbles, BadRequest when it breaks off, Overloaded when it comes when
        there is too much to do: none is a failure of ours."""
        if self._is_read:  # what is awaited now is the client's leaving, beside the work
            return await self._receive()
        has_place = True
        self._shedding.leave(self._address)
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message: Any = await self._receive()
            has_place = self._shedding.has_place_for(self._address)
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            self._shedding.enter(self._address)
        if message["type"] == "http.disconnect":
            raise BadRequest("The body broke off.")
        self._until += len(message.get("body", b"")) / BODY_RATE
        self._is_read = not message.get("more_body", False)
        if self._is_read and not has_place:
            self._shedding.shed()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":  # which is held until there is a body
            await self._send(message)
            return
        self._shedding.leave(self._address)
        try:
            await self._send(message)
        finally:
            self._shedding.enter(self._address)
