"""Slow readers: sends a large response in pieces, as its client takes them, after everything else has ended.

Data that waits for a client is in memory within a budget, and otherwise in a temporary file. A client that takes
nothing for PATIENCE seconds, or less than RATE on the whole, is disconnected, and its request ends.
"""

import asyncio
import os
import socket
import time
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, Any

from litestar.types import ASGIApp, Receive, Send
from loguru import logger

from service.errors import Overloaded
from service.limits.budget import PIECE, RESPONSES_IN_MEMORY, RESPONSES_ON_DISK, Budget, clients_of
from service.limits.rate_limits import address_of
from service.limits.turns import CLIENT
from service.metrics import Counter
from service.web.problems import raw_problem

MOST_IN_MEMORY = 1024 * 1024  # bytes of one response; a larger one is sent from a temporary file
PATIENCE = 30.0  # seconds in which a client must take a piece
RATE = 32 * 1024  # bytes a second that a client must take on average

_CUT = Counter("slow_readers_cut", "Connections ended because the client read too slowly.")


class SlowReaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        start: Any = None
        kept: _Kept | None = None
        client = _Client(scope, send)
        CLIENT.set(client)

        async def keep(message: Any) -> None:
            nonlocal start, kept
            if message["type"] == "http.response.start":
                start = message
                return
            body = message.get("body", b"")
            is_whole = start is not None and not message.get("more_body", False)
            if is_whole and len(body) > PIECE:
                kept = _Kept(scope, body)
                if await kept.is_within_budget():
                    return  # without sending: the response's frames, which hold the body, end first
                kept = None
                status, headers, refusal = raw_problem(scope, Overloaded("Too many large responses are being sent."))
                start = {"type": "http.response.start", "status": status, "headers": headers}
                message = {"type": "http.response.body", "body": refusal, "more_body": False}
            if start is not None:
                begin, start = start, None
                await client.take(begin)
            await client.take(message)

        try:
            await self.app(scope, receive, keep)
            if kept is not None:
                await client.take(start)
                await kept.deliver(client)
            client.leave()
        except Exception:
            if not client.is_cut:
                raise
        finally:
            if kept is not None:
                kept.close()


class _Kept:
    """A response's body that waits for its client."""

    def __init__(self, scope: Any, body: bytes) -> None:
        self.scope = scope
        self.size = len(body)
        self.clients = clients_of(scope)
        self.body = body
        self.file: IO[bytes] | None = None
        self.budget: Budget | None = None

    async def is_within_budget(self) -> bool:
        """Takes its share of a budget. Writes the body to a temporary file unless there is memory for it. Returns False
        if neither has room."""
        if self.size <= MOST_IN_MEMORY and RESPONSES_IN_MEMORY.take(self.clients, self.size):
            self.budget = RESPONSES_IN_MEMORY
            return True
        if not RESPONSES_ON_DISK.take(self.clients, self.size):
            return False
        self.budget = RESPONSES_ON_DISK  # before anything can cancel this, so that close gives it back
        try:
            self.file = await asyncio.to_thread(_spooled, self.body)
        except OSError as error:
            logger.error("A response cannot be written to a temporary file: {}", error)
            self.close()
            return False
        self.body = b""
        return True

    async def deliver(self, client: "_Client") -> None:
        for at in range(0, self.size, PIECE):
            piece = self.body[at : at + PIECE] if self.file is None else self.file.read(PIECE)
            message = {"type": "http.response.body", "body": piece, "more_body": at + PIECE < self.size}
            await client.take(message)

    def close(self) -> None:
        if self.budget is not None:
            self.budget.give_back(self.clients, self.size)
        if self.file is not None:
            self.file.close()


def _spooled(body: bytes) -> IO[bytes]:
    file = TemporaryFile()  # noqa: SIM115 (closed by _Kept)
    try:
        file.write(body)
        file.seek(0)
    except OSError:
        file.close()
        raise
    return file


class _Cut(Exception):
    """The client was disconnected. Ends whatever was still going to send to it."""


class _Client:
    """Counts how long one client lets the service wait. The time that the service itself takes does not count."""

    __slots__ = ("flow", "is_cut", "scope", "seconds_left", "send", "server", "transport")

    def __init__(self, scope: Any, send: Send) -> None:
        self.scope = scope
        self.send = send
        self.seconds_left = PATIENCE
        self.is_cut = False
        # Uvicorn's objects for this request: ASGI itself neither tells whether a client waits nor ends a connection
        self.server: Any = getattr(scope["state"]["server_send"], "__self__", None)
        self.transport = getattr(self.server, "transport", None)
        self.flow = getattr(self.server, "flow", None)

    @property
    def address(self) -> str:
        return address_of(self.scope)

    def has_left(self) -> bool:
        return bool(getattr(self.server, "disconnected", False))

    async def take(self, message: Any) -> None:
        """Sends the message once the client has taken enough of what was sent before: of this response, or of an
        earlier one on the same connection. Ends the connection and raises _Cut if that takes too long."""
        if self.is_cut:
            raise _Cut
        try:
            if self._has_to_wait():
                await self._wait_and_send(message)
            else:
                await self.send(message)
        except RuntimeError:  # uvloop's, when the connection ended and uvicorn did not notice
            if not self._is_closed():
                raise
            self._end()
            raise _Cut from None
        self.seconds_left += len(message.get("body", b"")) / RATE

    async def _wait_and_send(self, message: Any) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(PATIENCE, self.seconds_left)):
                await self.send(message)
        except TimeoutError:
            _CUT.inc()
            self._end()
            raise _Cut from None
        self.seconds_left -= time.monotonic() - began

    def leave(self) -> None:
        """Lets the system end the connection if the client takes nothing of the rest for PATIENCE seconds. The server
        sends the rest, at most 64 KiB or one small response, after the request has ended, and would wait for ever."""
        if self.transport is None or self.transport.is_closing() or not self.transport.get_write_buffer_size():
            return
        number = os.dup(self.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=number) as connection, suppress(AttributeError, OSError):  # no Linux, or no TCP
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(PATIENCE * 1000))

    def _has_to_wait(self) -> bool:
        """False only if the server takes the message at once, which saves a time-out for most responses (2 µs)."""
        return self.flow is None or self.flow.write_paused

    def _is_closed(self) -> bool:
        return self.transport is not None and self.transport.is_closing()

    def _end(self) -> None:
        self.is_cut = self.scope["state"]["is_cut"] = True
        if self.transport is not None:
            self.transport.abort()
            self.server.disconnected = True  # uvicorn tells only the last of several requests that wait on a connection
