"""The stream of changes, read as a browser reads server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

PATIENCE = 5.0  # seconds


class Event(NamedTuple):
    name: str
    id: str
    data: Any


class Stream:
    """Reads an event stream as the HTML standard says."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self.retry: int | None = None
        self._lines = response.aiter_lines()

    async def event(self, patience: float | None = PATIENCE) -> Event | None:
        """The next event; None at the end of the stream. Raises TimeoutError after ``patience`` seconds."""
        async with asyncio.timeout(patience):
            fields: dict[str, str] = {}
            async for line in self._lines:
                name, _, value = line.partition(":")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    fields[name] = value.removeprefix(" ")
                else:
                    if "retry" in fields:
                        self.retry = int(fields["retry"])
                    if "data" in fields:
                        return Event(fields.get("event", "message"), fields["id"], json.loads(fields["data"]))
                    fields = {}
        return None

    async def changes(self, count: int) -> list[tuple[str, int, bool]]:
        """The ids, the versions, and whether each is deleted."""
        events = [await self.event() for _ in range(count)]
        assert [each.name for each in events if each] == ["message"] * count
        return [(each.data["id"], each.data["version"], each.data["deleted"]) for each in events if each]

    async def begin(self, count: int = 0) -> Event:
        """Reads ``count`` changes and the event that follows them."""
        await self.changes(count)
        complete = await self.event()
        assert complete is not None
        assert complete.name == "complete"
        assert complete.data == {"next_cursor": complete.id}
        return complete


@asynccontextmanager
async def stream(
    url: str, member: httpx.AsyncClient, after: str | None = None, kind: str = "character", **headers: str
) -> AsyncIterator[Stream]:
    """The stream of changes of ``member``, from the service at ``url``."""
    given = {"Authorization": member.headers["Authorization"], "Accept": "text/event-stream"} | headers
    parameters = {"kind": kind} | ({"after": after} if after else {})
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE) as browser,
        browser.stream("GET", "/v1/changes", params=parameters, headers=given) as response,
    ):
        if response.status_code != 200:
            await response.aread()
        yield Stream(response)
