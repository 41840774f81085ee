"""Streams of changes that nobody reads: what waits for them is small, and within the budget for slow clients."""

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from service.changes import live
from service.limits.budget import RESPONSES_IN_MEMORY, Budget
from tests.api.changes.test_live import server
from tests.conftest import character
from tests.support.event_stream import stream

Client = httpx.AsyncClient

__all__ = ["server"]

NUMBER = 30
EXTENSIONS = 200 * 1024  # bytes


@pytest.fixture
async def large(alice: Client) -> list[str]:
    """The ids of characters that are larger together than what the system takes for a client that reads nothing."""
    return [(await character(alice, extensions={"notes": "n" * EXTENSIONS}))["id"] for _ in range(NUMBER)]


@pytest.fixture
async def unread(server: str, alice: Client, large: list[str]) -> AsyncIterator[asyncio.StreamReader]:
    """A stream of them that is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the system takes megabytes for the client
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (urlsplit(server).hostname, urlsplit(server).port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    token = alice.headers["Authorization"]
    lines = ("GET /v1/changes HTTP/1.1", "Host: localhost", f"Authorization: {token}", "Accept: text/event-stream")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    yield reader
    writer.transport.abort()


async def _held(least: int) -> int:
    """The bytes of the budget that are used, once there are so many and no more are coming."""
    for _ in range(50):
        await asyncio.sleep(0.1)
        if RESPONSES_IN_MEMORY.used >= least:
            break
    await asyncio.sleep(0.3)
    return RESPONSES_IN_MEMORY.used


async def test_a_stream_that_nobody_reads_holds_little(unread: asyncio.StreamReader) -> None:
    assert EXTENSIONS < await _held(EXTENSIONS) <= live.PAGE_SIZE + 10_000


async def test_a_stream_gives_the_budget_back(server: str, alice: Client, large: list[str]) -> None:
    async with stream(server, alice) as reader:
        await reader.begin(NUMBER)
        await asyncio.sleep(0.5)
        assert RESPONSES_IN_MEMORY.used == 0
    async with stream(server, alice) as reader:
        await reader.changes(1)
    await asyncio.sleep(0.3)
    assert RESPONSES_IN_MEMORY.used == 0


async def test_a_stream_waits_while_the_budget_is_used(
    server: str, alice: Client, large: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(live.PAGE_SIZE + 1000, live.PAGE_SIZE + 1000)
    monkeypatch.setattr(live, "RESPONSES_IN_MEMORY", budget)
    monkeypatch.setattr(live, "_UNAVAILABLE", 0.05)
    assert budget.take(("another",), 2000)
    async with stream(server, alice) as reader:
        with pytest.raises(TimeoutError):
            await reader.event(patience=1)
        assert reader.comments > 2
    budget.give_back(("another",), 2000)
    async with stream(server, alice) as reader:
        assert [each[0] for each in await reader.changes(NUMBER)] == large
        await reader.begin()
    await asyncio.sleep(0.2)
    assert budget.used == 0


async def test_a_change_that_is_larger_than_a_page_waits_and_is_not_skipped(
    server: str, alice: Client, large: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAGE_SIZE", 1000)
    budget = Budget(EXTENSIONS, EXTENSIONS)
    monkeypatch.setattr(live, "RESPONSES_IN_MEMORY", budget)
    monkeypatch.setattr(live, "_UNAVAILABLE", 0.05)
    assert budget.take(("another",), 2000)
    async with stream(server, alice) as reader:
        with pytest.raises(TimeoutError):
            await reader.event(patience=0.5)
        assert budget.used <= 3000
    budget.give_back(("another",), 2000)
    async with stream(server, alice) as reader:
        assert [each[0] for each in await reader.changes(NUMBER)] == large
