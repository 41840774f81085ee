"""Buffers for slow clients: little in memory, within budgets, and for a limited time."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from service.errors import Overloaded
from service.web import budget
from service.web.budget import Budget
from service.web.middleware import slow_readers, uploads
from service.web.middleware.slow_readers import SlowReaders
from service.web.middleware.uploads import Uploads

CLIENTS = 20
SIZE = 5 * 1024**2  # bytes of each body
MOST_MEMORY = 10 * 1024**2  # bytes; all bodies together have ten times as many


def scope(**headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    state = {"server_send": None, "headers": {}}
    return {"type": "http", "path": "/v1/x", "client": ("192.0.2.1", 1), "headers": given, "state": state}


@contextmanager
def clients(run: Any) -> Iterator[list["asyncio.Task[Any]"]]:
    tasks = [asyncio.create_task(run()) for _ in range(CLIENTS)]
    yield tasks
    for task in tasks:
        task.cancel()


async def answer_at_large(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(SIZE), "more_body": False})


async def never(_: Any = None) -> Any:
    await asyncio.Event().wait()


async def nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_responses_that_wait_for_their_clients_are_not_in_memory() -> None:
    tracemalloc.start()
    with clients(lambda: SlowReaders(answer_at_large)(scope(), nothing, never)) as tasks:
        await asyncio.sleep(1)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert not any(task.done() for task in tasks)
        assert budget.RESPONSES_ON_DISK.used == CLIENTS * SIZE
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held < MOST_MEMORY
    assert budget.RESPONSES_ON_DISK.used == 0


async def test_a_response_arrives_whole_in_pieces() -> None:
    sent: list[Any] = []

    async def take(message: Any) -> None:
        sent.append(message)

    await SlowReaders(answer_at_large)(scope(), nothing, take)
    bodies = [message["body"] for message in sent[1:]]
    assert (b"".join(bodies), max(map(len, bodies))) == (bytes(SIZE), budget.PIECE)
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(bodies) - 1) + [False]


async def test_a_client_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_readers, "PATIENCE", 0.1)

    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Server:
        transport = Transport()

        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.body":
                await never()

    server = Server()
    given = scope()
    given["state"]["server_send"] = server.send
    async with asyncio.timeout(2):
        await SlowReaders(answer_at_large)(given, nothing, server.send)
    assert server.transport.aborted
    assert budget.RESPONSES_ON_DISK.used == 0


async def test_a_response_past_the_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_readers, "RESPONSES_ON_DISK", Budget(100 * SIZE, 2 * SIZE))
    statuses: list[Any] = []

    async def note(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append((message["status"], dict(message["headers"]).get(b"retry-after")))
        elif message["more_body"]:
            await never()

    with clients(lambda: SlowReaders(answer_at_large)(scope() | {"state": {"request_id": "x"}}, nothing, note)):
        await asyncio.sleep(0.5)
        assert sorted(statuses, key=str) == [(200, None)] * 2 + [(503, b"1")] * (CLIENTS - 2)


async def test_bodies_that_are_still_arriving_are_not_in_memory() -> None:
    async def read_all(_: Any, receive: Any, __: Any) -> None:
        await receive()

    def slow_upload() -> Any:
        left = SIZE // 65536

        async def receive() -> Any:
            nonlocal left
            left -= 1
            return {"type": "http.request", "body": bytes(65536), "more_body": True} if left else await never()

        return Uploads(read_all)(scope(content_length=str(SIZE)), receive, never)

    tracemalloc.start()
    with clients(slow_upload) as tasks:
        await asyncio.sleep(1)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert budget.UPLOADS_ON_DISK.used == CLIENTS * SIZE
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held < MOST_MEMORY
    assert budget.UPLOADS_ON_DISK.used == 0


async def test_an_upload_past_the_budget_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_ON_DISK", Budget(100 * SIZE, 2 * SIZE))
    refused = read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        await never()

    async def app(_: Any, receive: Any, __: Any) -> None:
        nonlocal refused
        try:
            await receive()
        except Overloaded:
            refused += 1

    with clients(lambda: Uploads(app)(scope(content_length=str(SIZE)), receive, never)):
        await asyncio.sleep(0.2)
        assert (read, refused) == (2, CLIENTS - 2)


async def test_a_large_card_is_sent_from_a_file(alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.cards import queries
    from tests.conftest import character

    path = f"/v1/characters/{(await character(alice))['id']}/card?format=charx"
    small = await alice.get(path)
    monkeypatch.setattr(queries, "MOST_IN_MEMORY", 10)
    large = await alice.get(path)
    assert (large.content, large.headers["content-type"]) == (small.content, small.headers["content-type"])
    assert large.headers["content-length"] == str(len(small.content))
    assert large.headers["etag"] == small.headers["etag"]
    assert (await alice.head(path)).status_code == 200
    assert (await alice.get(path, headers={"If-None-Match": large.headers["etag"]})).status_code == 304
    assert budget.RESPONSES_ON_DISK.used == 0
