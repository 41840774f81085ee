"""Many open streams of changes, against the service as a process of its own."""

import asyncio
import re
import signal
import time

import httpx
import pytest

from benchmarks.servers import resident
from tests.support.servers import Service, member_of, service_of_its_own

pytestmark = pytest.mark.slow

STREAMS = 1000
AT_ONCE = 50  # streams that are opened together; a worker handles at most 100 requests of one address at once
MOST_MEMORY = 100  # MiB more than before
MOST_SECONDS = 10  # until the service has ended; the drain takes up to 25


async def test_a_thousand_streams_cost_little_get_each_change_and_end_at_the_signal() -> None:
    with service_of_its_own(MAX_CHANGE_STREAMS=str(STREAMS), RATE_LIMIT_SCALE="10000") as service:
        service.start()
        assert service.process is not None
        async with member_of(service.url, "alice") as alice:
            await _seconds_for_creates(alice, 100)
            alone = await _seconds_for_creates(alice, 200)
            start = (await alice.get("/v1/changes", params={"limit": 100})).json()["next_cursor"]
            while (page := (await alice.get("/v1/changes", params={"limit": 100, "after": start})).json())["items"]:
                start = page["next_cursor"]
            before = resident(service.process.pid)
            streams = []
            for _ in range(STREAMS // AT_ONCE):
                streams += await asyncio.gather(*(_open(service, alice, start) for _ in range(AT_ONCE)))
            await asyncio.sleep(5)  # the tokens are checked meanwhile
            used = resident(service.process.pid) - before
            async with member_of(service.url, "bob") as bob:
                beside = await _seconds_for_creates(bob, 200)
            made = (await alice.post("/v1/characters", json={"name": "Mira"})).json()["id"]
            began = time.perf_counter()
            changes = await asyncio.gather(*(_next_change(reader) for reader, _ in streams))
            arrived = time.perf_counter() - began
            print(f"{used:.0f} MiB; create {alone * 1000:.2f} and {beside * 1000:.2f} ms; one change {arrived:.2f} s")  # noqa: T201 (the figures)
            assert all(made.encode() in text for text in changes)
            assert used < MOST_MEMORY
            began = time.perf_counter()
            service.send(signal.SIGTERM)
            ends = await asyncio.gather(*(reader.read() for reader, _ in streams))
            for _, writer in streams:
                writer.close()
            assert all(re.search(rb"retry: \d+\n\n", end) for end in ends)
            assert await asyncio.to_thread(service.wait) == 0
            assert time.perf_counter() - began < MOST_SECONDS


async def _seconds_for_creates(member: httpx.AsyncClient, count: int) -> float:
    """The average time of a create."""
    began = time.perf_counter()
    for _ in range(count):
        assert (await member.post("/v1/characters", json={"name": "Mira"})).status_code == 201
    return (time.perf_counter() - began) / count


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _open(service: Service, member: httpx.AsyncClient, after: str) -> Streams:
    """A stream that has sent its first event ``complete``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(
        f"GET /v1/changes?after={after} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        f"Authorization: {member.headers['Authorization']}\r\n\r\n".encode()
    )
    async with asyncio.timeout(60):
        begun = await reader.readuntil(b"event: complete")
        assert begun.startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"\n\n")
    return reader, writer


async def _next_change(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(60):
        await reader.readuntil(b"data: ")
        return await reader.readuntil(b"\n\n")
