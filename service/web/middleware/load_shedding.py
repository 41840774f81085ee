"""Load shedding: a worker refuses requests early while it already processes as many as it can.

A request counts while it is processed, not while it waits for its client, so slow clients use no capacity. One address
gets at most half of the capacity, which leaves the rest to others.
"""

import asyncio
import resource
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from service.errors import BadRequest, Overloaded, RequestTimeout
from service.limits.rate_limits import address_of
from service.metrics import Counter, Gauge, sample

BODY_PATIENCE = 30.0  # seconds in which a small body must arrive
BODY_RATE = 16 * 1024  # bytes of a body for which it has one second more

# Refusals are delayed: many clients retry at once, and would keep the worker busy with refusals alone
_REFUSALS = 200  # a second
_LONGEST_PAUSE = 5.0  # seconds

_SHED = Counter("requests_shed", "Requests refused because this worker had enough to do.")
_IN_FLIGHT = Gauge("requests_in_flight", "Requests that the workers work on.", multiprocess_mode="livesum")


def allow_many_connections() -> None:
    """Raises the limit of open files to the hard limit. The usual soft limit, 1,024, is for programs with select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class LoadShedding:
    def __init__(self, app: ASGIApp, max_in_flight: int) -> None:
        self.app = app
        self.max_in_flight = max_in_flight
        self.max_of_address = (max_in_flight + 1) // 2
        self.in_flight = 0
        self._of_address: dict[str, int] = {}
        self._next_refusal = 0.0
        sample(_IN_FLIGHT, lambda: self.in_flight)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        address = address_of(scope)
        if not self.has_capacity_for(address):
            await self._pause()
            self.shed()
        client = _Client(self, address, receive, send)
        scope["state"]["not_in_flight"] = client.not_in_flight
        self.enter(address)
        try:
            await self.app(scope, client.receive, client.send)
        finally:
            self.leave(address)

    def has_capacity_for(self, address: str) -> bool:
        return self.in_flight < self.max_in_flight and self._of_address.get(address, 0) < self.max_of_address

    def enter(self, address: str) -> None:
        self.in_flight += 1
        self._of_address[address] = self._of_address.get(address, 0) + 1

    def leave(self, address: str) -> None:
        self.in_flight -= 1
        left = self._of_address[address] - 1
        if left:
            self._of_address[address] = left
        else:
            del self._of_address[address]

    def shed(self) -> None:
        _SHED.inc()
        raise Overloaded

    async def _pause(self) -> None:
        now = time.monotonic()
        self._next_refusal = min(max(now, self._next_refusal + 1 / _REFUSALS), now + _LONGEST_PAUSE)
        await asyncio.sleep(self._next_refusal - now)


class _Client:
    """``receive`` and ``send`` of one request, which does not count while they wait."""

    __slots__ = (
        "_address",
        "_is_in_flight",
        "_is_read",
        "_receive",
        "_send",
        "_shedding",
        "_until",
        "_waits",
    )

    def __init__(self, shedding: LoadShedding, address: str, receive: Receive, send: Send) -> None:
        self._shedding = shedding
        self._address = address
        self._receive = receive
        self._send = send
        self._is_read = False  # the body is complete, or nobody will read it
        self._is_in_flight = True
        self._until = time.monotonic() + BODY_PATIENCE
        self._waits = 0  # a streamed response waits in receive and in send at the same time

    async def receive(self) -> Any:
        """Raises RequestTimeout when the body is too slow, BadRequest when it breaks off, and Overloaded when it
        is complete but the worker has no capacity."""
        if self._is_read or not self._is_in_flight:  # this waits for the client to disconnect
            return await self._receive()
        has_capacity = True
        self._begin_to_wait()
        try:
            # A client that was quick at first may not wait for long, either
            async with asyncio.timeout(min(BODY_PATIENCE, self._until - time.monotonic())):
                message: Any = await self._receive()
            has_capacity = self._shedding.has_capacity_for(self._address)
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            self._end_to_wait()
        if message["type"] == "http.disconnect":
            raise BadRequest("The body broke off.")
        self._until += len(message.get("body", b"")) / BODY_RATE
        self._is_read = self._is_read or not message.get("more_body", False)
        if self._is_read and not has_capacity:
            self._shedding.shed()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":  # held by Failures: nothing waits for the client
            self._is_read = True  # a response that has started is never shed, also if it ignores the body
            return self._send(message)
        return self._send_body(message) if self._is_in_flight else self._send(message)

    @contextmanager
    def not_in_flight(self) -> Iterator[None]:
        """For a response that mostly waits, such as an event stream: it does not count during the block."""
        self._shedding.leave(self._address)
        self._is_in_flight = False
        try:
            yield
        finally:
            self._is_in_flight = True
            self._shedding.enter(self._address)

    async def _send_body(self, message: Message) -> None:
        self._begin_to_wait()
        try:
            await self._send(message)
        finally:
            self._end_to_wait()

    def _begin_to_wait(self) -> None:
        self._waits += 1
        if self._waits == 1:
            self._shedding.leave(self._address)

    def _end_to_wait(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._shedding.enter(self._address)
