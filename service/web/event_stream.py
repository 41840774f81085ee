"""Responses of type ``text/event-stream`` (server-sent events), which end only when either side ends them."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Any

from litestar.types import Receive, Send

from service.web.responses import Rendered, send_pieces

EVENT_STREAM = "text/event-stream"
HEARTBEAT = b":\n"  # a comment; without an empty line, so that no client takes it for an event
_LONGEST_RETRY = 5000  # milliseconds; clients wait for random times, so that they do not all come back at once


def event(data: str, *, id: str, name: str = "") -> bytes:
    """``data`` is JSON, so a line break in it is only white space."""
    kind = f"event: {name}\n" if name else ""
    line = data.replace("\n", " ").replace("\r", " ")
    return f"{kind}id: {id}\ndata: {line}\n\n".encode()


class EventStream(Rendered[Any]):
    """Sends ``parts`` as they come, until ``end`` is set or the client leaves. ``opened`` is entered meanwhile.

    A client that takes nothing for a while is disconnected by the middleware SlowReaders.
    """

    def __init__(
        self, parts: AsyncGenerator[bytes, None], end: asyncio.Event, opened: AbstractContextManager[None]
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(b"", headers=headers, media_type=EVENT_STREAM)
        self._parts = parts
        self._end = end
        self._opened = opened

    async def answer(self, scope: Any, receive: Receive, send: Send) -> None:
        with self._opened, scope["state"]["not_in_flight"]():
            await self.start(send)
            await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
            if await send_pieces(self._parts, scope, receive, send, self._end):
                return
            retry = b"retry: %d\n\n" % random.randint(_LONGEST_RETRY // 10, _LONGEST_RETRY)  # noqa: S311 (no secret)
            await send({"type": "http.response.body", "body": retry, "more_body": False})
