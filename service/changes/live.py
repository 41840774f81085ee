"""The feed of changes as a stream of server-sent events."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from service.changes.listeners import CHANGES, register
from service.changes.queries import Feed
from service.database.failures import TRANSIENT
from service.errors import Unavailable
from service.limits.budget import RESPONSES_IN_MEMORY, Clients
from service.web.event_stream import HEARTBEAT, event

HEARTBEAT_EVERY = 15.0  # seconds
RENEWED_EVERY = 3600.0  # seconds; a cursor is valid for 29 days since the end of the feed was reached
_PAGE = 50  # rows of a page at most, which are in memory until the client has taken them
PAGE_SIZE = 256 * 1024  # bytes of a page at most, unless one row has more
_DELAYED = (0.05, 2.0)  # seconds between reads while changes wait for an older transaction, at first and at most
_MOST_READS = 2  # at once, so that all streams together leave most connections to other requests
_UNAVAILABLE = 2.0  # seconds until the next attempt, on average, and while too much waits for slow clients

_reads = asyncio.Semaphore(_MOST_READS)


async def follow(feed: Feed, clients: Clients) -> AsyncGenerator[bytes, None]:
    """Each change as an event with its cursor as id, in order. Whenever an hour has passed, and at the start, an event
    ``complete`` follows the last change, whose id is the renewed cursor. Events that wait to be taken count for
    ``clients``."""
    changed = asyncio.Event()
    completed_at: float | None = None
    registered_at: int | None = None  # in CHANGES.starts
    with CHANGES.wake(changed, str(feed.user.id)):
        while True:
            changed.clear()
            delay = _DELAYED[0]
            try:
                if registered_at != CHANGES.starts:
                    registered_at = await _register(feed, changed)
                async with aclosing(_read_all(feed, clients)) as parts:
                    async for part in parts:
                        yield part
                while await _is_delayed(feed) and not changed.is_set():
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _DELAYED[1])
                    yield HEARTBEAT
                    async with aclosing(_read_all(feed, clients)) as parts:
                        async for part in parts:
                            yield part
            except (Unavailable, *TRANSIENT):
                yield HEARTBEAT
                await _wait_a_while()
                continue
            if completed_at is None or time.monotonic() - completed_at > RENEWED_EVERY:
                completed_at = time.monotonic()
                cursor = feed.cursor
                yield event(msgspec.json.encode({"next_cursor": cursor}).decode(), id=cursor, name="complete")
            while not changed.is_set() and time.monotonic() - completed_at <= RENEWED_EVERY:
                try:
                    async with asyncio.timeout(HEARTBEAT_EVERY):  # wait_for ignores a cancellation at the same time
                        await changed.wait()
                except TimeoutError:
                    yield HEARTBEAT


async def _register(feed: Feed, changed: asyncio.Event) -> int:
    start = CHANGES.starts
    async with _reads:
        await register(feed.user.id, changed)
    return start


async def _read_all(feed: Feed, clients: Clients) -> AsyncGenerator[bytes, None]:
    """All changes that can be read now, a page at a time, when there is memory for it. No connection is held while the
    client takes them."""
    is_complete, limit = False, _PAGE
    while not is_complete:
        if not RESPONSES_IN_MEMORY.take(clients, PAGE_SIZE):
            yield HEARTBEAT
            await _wait_a_while()
            continue
        held = PAGE_SIZE
        try:
            async with _reads:
                page = await feed.read(limit, PAGE_SIZE)
            events = deque([event(row["item"], id=feed.cursor_of(row)) for row in page])
            limit = min(_PAGE, max(2, 2 * len(page)))  # the database makes all of them to know their sizes
            size = sum(map(len, events))
            del page
            RESPONSES_IN_MEMORY.give_back(clients, held)
            held = 0
            if not RESPONSES_IN_MEMORY.take(clients, size):  # larger than a page
                feed.return_to_start()
                events.clear()
                yield HEARTBEAT
                await _wait_a_while()
                continue
            held, is_complete = size, feed.is_complete
            while events:
                yield events.popleft()
        finally:
            RESPONSES_IN_MEMORY.give_back(clients, held)


async def _wait_a_while() -> None:
    await asyncio.sleep(random.uniform(0.5, 1.5) * _UNAVAILABLE)  # noqa: S311 (no secret)


async def _is_delayed(feed: Feed) -> bool:
    async with _reads:
        return await feed.is_delayed()
