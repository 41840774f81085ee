"""No more work at once than one worker does well: what comes on top is refused early, while refusing is cheap.

A request counts while it is worked on, not while it waits for its client: a thousand slow clients take nobody's place.
"""

import asyncio
import resource
import time
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send
from prometheus_client import Counter, Gauge

from service.errors import BadRequest, Overloaded, RequestTimeout

BODY_PATIENCE = 30.0  # seconds in which a body must have come,
BODY_RATE = 16 * 1024  # and one more for each so many bytes that did

_SHED = Counter("requests_shed", "Requests refused because this worker had enough to do.")
_IN_FLIGHT = Gauge("requests_in_flight", "Requests that this worker works on.")


def allow_many_connections() -> None:
    """As many as the system lets this process have; the usual soft limit, 1,024, is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Overload:
    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self.in_flight = 0
        _IN_FLIGHT.set_function(lambda: self.in_flight)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        if self.in_flight >= self.most:
            self.shed()
        client = _Client(self, receive, send)
        self.in_flight += 1
        try:
            await self.app(scope, client.receive, client.send)
        finally:
            self.in_flight -= 1

    def shed(self) -> None:
        _SHED.inc()
        raise Overloaded


class _Client:
    """``receive`` and ``send`` of one request, which for as long as they wait is not worked on."""

    def __init__(self, overload: Overload, receive: Receive, send: Send) -> None:
        self._overload = overload
        self._receive = receive
        self._send = send
        self._is_read = False
        self._until = time.monotonic() + BODY_PATIENCE

    async def receive(self) -> Any:
        """Raises RequestTimeout when the body dribbles, BadRequest when it breaks off, Overloaded when it comes at a bad
        moment: none is a failure of ours."""
        if self._is_read:  # what is awaited now is the client's leaving, beside the work
            return await self._receive()
        self._overload.in_flight -= 1
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message: Any = await self._receive()
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            self._overload.in_flight += 1
        if message["type"] == "http.disconnect":
            raise BadRequest("The body broke off.")
        self._until += len(message.get("body", b"")) / BODY_RATE
        self._is_read = not message.get("more_body", False)
        if self._is_read and self._overload.in_flight > self._overload.most:
            self._overload.shed()
        return message

    async def send(self, message: Message) -> None:
        self._overload.in_flight -= 1
        try:
            await self._send(message)
        finally:
            self._overload.in_flight += 1
