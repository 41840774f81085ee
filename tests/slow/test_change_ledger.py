"""Streams of changes send every acknowledged change once, while the workers and PostgreSQL are restarted in turn."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from service.database import embedded
from tests.support.event_stream import Stream
from tests.support.servers import (
    Service,
    directory_of_its_own,
    end_processes_of,
    member_of,
    piccolo,
    worker_of_its_own,
)

pytestmark = pytest.mark.slow

PATIENCE = 60.0  # seconds until the service works again
SOON = 8.0  # seconds in which the streams must send a change; below the 15 between two renewals of registrations
MORE = 20  # acknowledged changes, at least, between two restarts

Change = tuple[str, int]  # the id and the version of a resource


class Writer:
    """Creates, changes and deletes characters with relationships, and templates, through whichever worker answers."""

    def __init__(self, workers: list[Service], headers: dict[str, str]) -> None:
        self.clients = [httpx.AsyncClient(base_url=each.url, headers=headers, timeout=10) for each in workers]
        self.acknowledged: list[Change] = []
        self.partner: str | None = None  # the id of the character that all others are related to
        self.template: str | None = None
        self.related: Change | None = None  # the relationship of the newest character

    async def write(self) -> None:
        async with AsyncExitStack() as stack:
            for client in self.clients:
                await stack.enter_async_context(client)
            made: Change | None = None
            for turn, client in zip(itertools.count(), itertools.cycle(self.clients), strict=False):
                try:
                    made = await self._write(client, turn % 5, made)
                except httpx.TransportError:
                    made = None  # whether it was written is not known
                await asyncio.sleep(0.01)

    async def _write(self, client: httpx.AsyncClient, turn: int, made: Change | None) -> Change | None:
        if made is None or turn == 0:
            answer = await client.post("/v1/characters", json={"name": "Mira"})
        elif turn == 4:
            answer = await client.delete(f"/v1/characters/{made[0]}")
            if answer.status_code == 204:
                self.acknowledged.append((made[0], made[1] + 1))
                if self.related:  # is hidden with its character
                    self.acknowledged.append((self.related[0], self.related[1] + 1))
            return None
        else:
            answer = await client.patch(f"/v1/characters/{made[0]}", json={"name": f"Mira {turn}"})
        if not answer.is_success:
            assert answer.status_code == 503, answer.text
            return None
        row = answer.json()
        self.acknowledged.append((row["id"], row["version"]))
        await self._write_others(client, turn, row["id"])
        return row["id"], row["version"]

    async def _write_others(self, client: httpx.AsyncClient, turn: int, character: str) -> None:
        self.related = None
        if turn == 1 or self.template is None:
            answer = await client.post("/v1/templates", json={"name": "Fighter"})
            self.template = answer.json().get("id")
        elif turn == 2:
            answer = await client.patch(f"/v1/templates/{self.template}", json={"description": character})
        elif turn == 3 and self.partner:
            body = {"target": self.partner, "type": "ally_of"}
            answer = await client.post(f"/v1/characters/{character}/relationships", json=body)
        elif self.partner is None:
            answer = await client.post("/v1/characters", json={"name": "Otto"})
            self.partner = answer.json().get("id")
        else:
            return
        if answer.is_success:
            row = answer.json()
            self.acknowledged.append((row["id"], row["version"]))
            if "target" in row:
                self.related = row["id"], row["version"]
        else:
            assert answer.status_code == 503, answer.text


class Reader:
    """Follows the stream of one worker, and of the other one when it ends or breaks."""

    def __init__(self, workers: list[Service], headers: dict[str, str]) -> None:
        self.workers = workers
        self.headers = headers | {"Accept": "text/event-stream"}
        self.last_id = ""
        self.cursors: list[str] = []
        self.told: list[Change] = []
        self.connections = 0

    async def read(self) -> None:
        for worker in itertools.cycle(self.workers):
            try:
                await self._read(worker)
            except httpx.TransportError:
                await asyncio.sleep(0.1)

    async def _read(self, worker: Service) -> None:
        again = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with (
            httpx.AsyncClient(base_url=worker.url, headers=self.headers | again, timeout=45) as client,
            client.stream("GET", "/v1/changes?kind=character,template,relationship") as response,
        ):
            if response.status_code != 200:
                assert response.status_code in (429, 503), await response.aread()
                return
            self.connections += 1
            stream = Stream(response)
            while event := await stream.event(patience=None):  # the client's own time-out breaks the connection
                self.last_id = event.id
                if event.name == "message":
                    self.cursors.append(event.id)
                    self.told.append((event.data["id"], event.data["version"]))

    def missed(self, acknowledged: list[Change]) -> list[Change]:
        """The changes of which neither the version nor a later one was told."""
        newest: dict[str, int] = {}
        for id_, version in self.told:
            newest[id_] = max(version, newest.get(id_, 0))
        return [(id_, version) for id_, version in acknowledged if newest.get(id_, 0) < version]


async def test_streams_miss_and_repeat_nothing_while_workers_and_the_database_are_restarted() -> None:
    with ExitStack() as stack:
        data_dir = stack.enter_context(directory_of_its_own()) / "data"
        stack.callback(end_processes_of, data_dir)
        postgres = await asyncio.to_thread(embedded.start, data_dir)
        stack.callback(lambda: postgres.stop())
        dsn = embedded.dsn(data_dir)
        assert piccolo("migrations", "forwards", "all", DATABASE_URL=dsn).returncode == 0
        settings = {"DATABASE_URL": dsn, "RATE_LIMIT_SCALE": "10000", "SECRET_KEY": "JDnX3vGkq0m7sYb2cP9wLtRz5hFaU8e1"}
        workers = [stack.enter_context(worker_of_its_own(**settings)).start() for _ in range(2)]
        async with member_of(workers[0].url, "alice") as alice:
            headers = {"Authorization": alice.headers["Authorization"]}
        writer = Writer(workers, headers)
        readers = [Reader(workers, headers), Reader(workers[::-1], headers)]
        async with _running(writer.write(), *(reader.read() for reader in readers)) as check:

            async def more() -> None:
                """Waits until the service works again and everyone got something of it."""
                written = len(writer.acknowledged) + MORE
                await _until(lambda: len(writer.acknowledged) >= written, check)
                told = [len(reader.told) + 5 for reader in readers]
                await _until(
                    lambda: all(len(each.told) >= n for each, n in zip(readers, told, strict=True)), check, SOON
                )

            await more()
            for worker in workers:
                await asyncio.to_thread(worker.stop)
                await more()
                await asyncio.to_thread(worker.start)
                await more()
            await _crash(dsn)
            await asyncio.sleep(4)  # then the streams, which read again at first, only wait for notifications
            await more()
            await asyncio.to_thread(postgres.stop)
            postgres = await asyncio.to_thread(embedded.start, data_dir)
            await more()
            await asyncio.to_thread(workers[0].stop, signal.SIGKILL)
            await more()
            acknowledged = list(writer.acknowledged)
            await _until(lambda: not any(reader.missed(acknowledged) for reader in readers), check, SOON)
        assert len(acknowledged) > 6 * MORE
        assert {version for _, version in acknowledged} >= {1, 2, 3}
        for reader in readers:
            assert reader.connections > 1
            assert len(reader.cursors) == len(set(reader.cursors))
            assert len(reader.told) == len(set(reader.told))


async def _crash(dsn: str) -> None:
    """Kills a process of PostgreSQL, which then ends all connections, recovers, and empties unlogged tables."""
    connection = await asyncpg.connect(dsn)
    os.kill(await connection.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
    connection.terminate()


@asynccontextmanager
async def _running(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[Callable[[], None]]:
    """Runs endless jobs for the block. Yields a function that raises the failure of a job that ended."""
    tasks = [asyncio.create_task(job) for job in jobs]

    def check() -> None:
        for task in tasks:
            if task.done():
                task.result()

    try:
        yield check
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(is_so: Callable[[], bool], check: Callable[[], None], patience: float = PATIENCE) -> None:
    async with asyncio.timeout(patience):
        while not is_so():
            check()
            await asyncio.sleep(0.05)
