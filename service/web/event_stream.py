"""Responses of type ``text/event-stream`` (server-sent events), which end only when either side ends them."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from typing import Any

from litestar.types import Receive, Send

from service.web.responses import Rendered

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
        headers = [(name.lower().encode(), value.encode()) for name, value in self.extra_headers.items()]
        headers.append((b"content-type", self.type))
        with self._opened, scope["state"]["not_in_flight"]():
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
            if scope["method"] != "HEAD" and await self._send_parts(receive, send):
                return
            retry = b"retry: %d\n\n" % random.randint(_LONGEST_RETRY // 10, _LONGEST_RETRY)  # noqa: S311 (no secret)
            await send({"type": "http.response.body", "body": retry, "more_body": False})

    async def _send_parts(self, receive: Receive, send: Send) -> bool:
        """Whether the client left."""

        async def send_parts() -> None:
            async with aclosing(self._parts):
                async for part in self._parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})

        async def wait_until_left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        sending, leaving = asyncio.create_task(send_parts()), asyncio.create_task(wait_until_left())
        ending = asyncio.create_task(self._end.wait())
        tasks = {sending, leaving, ending}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            has_left = leaving.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not sending.cancelled():
            sending.result()  # raises its failure
        return has_left
