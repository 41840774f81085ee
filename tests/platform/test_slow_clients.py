"""Buffers for slow clients: little in memory, within budgets, and for a limited time."""

import asyncio
import errno
import socket
import time
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import httpx
import pytest

from service.cards.imports import queries as imports
from service.errors import Overloaded, RequestTimeout, TooLarge
from service.limits import budget
from service.limits.budget import Budget, Clients
from service.limits.turns import Turns
from service.web.middleware import load_shedding, slow_readers, uploads
from service.web.middleware.failures import Failures
from service.web.middleware.load_shedding import LoadShedding
from service.web.middleware.slow_readers import SlowReaders
from service.web.middleware.uploads import Uploads
from service.web.responses import Streamed

CLIENTS = 20
SIZE = 5 * 1024**2  # bytes of each body
MOST_MEMORY = 10 * 1024**2  # bytes; all bodies together have ten times as many


def scope(**headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    state = {"server_send": None, "headers": {}}
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/x",
        "client": ("192.0.2.1", 1),
        "headers": given,
        "state": state,
    }


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


async def answer_a_little(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}", "more_body": False})


async def answer_in_pieces(scope: Any, receive: Any, send: Any) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"piece"

    await Failures(Streamed(pieces(), "text/plain", headers={}).answer)(scope, receive, send)


@pytest.mark.parametrize("answer", [answer_at_large, answer_a_little, answer_in_pieces])
@pytest.mark.parametrize("taken", ["nothing", "the start"])
async def test_a_client_that_takes_nothing_is_cut(answer: Any, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it takes an earlier response on the same connection: then the start of this one waits."""
    monkeypatch.setattr(slow_readers, "PATIENCE", 0.05)

    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Server:
        transport = Transport()

        async def send(self, message: Any) -> None:
            if taken == "nothing" or message["type"] == "http.response.body":
                await never()

    server = Server()
    given = scope()
    given["state"]["server_send"] = server.send
    async with asyncio.timeout(2):
        await SlowReaders(answer)(given, never, server.send)
    assert server.transport.aborted
    assert budget.RESPONSES_ON_DISK.used == 0
    left = {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}
    assert left.isdisjoint({"_send", "_until_disconnected"})


class Connection:
    """Uvicorn's object for a request, and its transport."""

    def __init__(self, sock: socket.socket, left: int) -> None:
        self.sock = sock
        self.left = left
        self.closed = False
        self.transport = self

    async def send(self, _: Any) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return self.left

    def get_extra_info(self, _: str) -> socket.socket:
        return self.sock


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
@pytest.mark.parametrize(("left", "milliseconds"), [(0, 0), (100, 30_000)])
async def test_the_rest_of_a_response_waits_no_longer_for_its_client(left: int, milliseconds: int) -> None:
    with socket.socket() as sock:
        given, connection = scope(), Connection(sock, left)
        given["state"]["server_send"] = connection.send
        await SlowReaders(answer_a_little)(given, nothing, connection.send)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds


async def test_a_connection_that_ended_unnoticed_is_no_failure_of_the_service() -> None:
    with socket.socket() as sock:
        given, connection = scope(), Connection(sock, 0)
        given["state"]["server_send"] = connection.send
        connection.closed = True
        await SlowReaders(Failures(answer_a_little))(given, nothing, connection.send)
        connection.is_closing = lambda: False  # then it is another error
        with pytest.raises(RuntimeError):
            await SlowReaders(Failures(answer_a_little))(
                scope() | {"state": given["state"] | {"is_cut": False}}, nothing, connection.send
            )


async def test_a_response_past_the_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_readers, "RESPONSES_ON_DISK", Budget(100 * SIZE, 2 * SIZE))
    statuses: list[Any] = []

    async def note(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append((message["status"], dict(message["headers"]).get(b"retry-after")))
        elif message["more_body"]:
            await never()

    with clients(
        lambda: SlowReaders(answer_at_large)(
            scope() | {"state": {"request_id": "x", "server_send": None}}, nothing, note
        )
    ):
        await asyncio.sleep(0.5)
        assert sorted(statuses, key=str) == [(200, None)] * 2 + [(503, b"1")] * (CLIENTS - 2)


async def test_a_response_is_refused_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(slow_readers, "TemporaryFile", full)
    sent: list[Any] = []

    async def note(message: Any) -> None:
        sent.append(message)

    await SlowReaders(answer_at_large)(scope() | {"state": {"request_id": "x", "server_send": None}}, nothing, note)
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"content-type"]) == (503, b"application/problem+json")
    assert budget.RESPONSES_ON_DISK.used == 0


async def test_a_response_that_is_cancelled_while_it_is_written_gives_its_budget_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    def slow() -> Any:
        time.sleep(0.3)
        made.append(TemporaryFile())  # noqa: SIM115 (closed at the end)
        return made[0]

    monkeypatch.setattr(slow_readers, "TemporaryFile", slow)
    state = {"request_id": "x", "server_send": None}
    answering = asyncio.create_task(SlowReaders(answer_at_large)(scope() | {"state": state}, nothing, never))
    await asyncio.sleep(0.1)
    assert budget.RESPONSES_ON_DISK.used == SIZE
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    assert budget.RESPONSES_ON_DISK.used == 0
    await asyncio.sleep(0.5)  # the thread ends later
    made[0].close()


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
        assert budget.UPLOADS_ON_DISK.used == CLIENTS * (SIZE - 65536)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held < MOST_MEMORY
    assert budget.UPLOADS_ON_DISK.used == 0


async def upload(sent: int, announced: int) -> None:
    """An upload that announces more bytes than it sends, and then waits."""
    left = sent // 65536

    async def receive() -> Any:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(65536), "more_body": True} if left >= 0 else await never()

    async def app(_: Any, receive: Any, __: Any) -> None:
        await receive()

    await Uploads(app)(scope(content_length=str(announced)), receive, never)


async def test_the_body_of_a_read_is_not_kept() -> None:
    """A stream of changes would keep it to its end."""
    seen: list[Any] = []

    async def app(of_request: Any, receive: Any, send: Any) -> None:
        seen.append((receive, "read_again" in of_request["state"]))

    await Uploads(app)(scope(content_length=str(SIZE)) | {"method": "GET"}, nothing, never)
    assert seen == [(nothing, False)]


async def test_an_upload_past_the_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_ON_DISK", Budget(100 * SIZE, 2 * SIZE))
    with clients(lambda: upload(0, SIZE)) as tasks:  # who announce much and send nothing
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        with clients(lambda: upload(SIZE, SIZE)) as sending:  # all at once: they are refused when the budget is used
            await asyncio.sleep(0.5)
            assert sum(isinstance(task.exception(), Overloaded) for task in sending if task.done()) == CLIENTS - 2
            with pytest.raises(Overloaded):  # before anything is read
                await asyncio.wait_for(upload(0, SIZE), 2)
    await asyncio.gather(*tasks, *sending, return_exceptions=True)
    assert uploads.UPLOADS_ON_DISK.used == 0


def test_a_budget_counts_an_address_and_a_user() -> None:
    """Whoever has many addresses, or many accounts at one address, has one share."""
    shared = Budget(100, 2)
    steps: list[tuple[Clients, int, bool]] = [
        (("one", "alice"), 2, True),
        (("two", "alice"), 1, False),
        (("one", "charlie"), 1, False),
        (("one",), 1, False),
        (("two", "charlie"), 2, True),
        (("three", "dora"), 96, True),  # of a client without others, a single one may be larger
        (("four",), 1, False),
    ]
    for of, size, fits in steps:
        assert shared.take(of, size) is fits, (of, size)
    for of, size, fits in steps:
        if fits:
            shared.give_back(of, size)
    assert (shared.used, dict(shared._of_client)) == (0, {})


async def test_a_users_uploads_from_two_addresses_share_a_budget(
    app: Any, alice: httpx.AsyncClient, charlie: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_ON_DISK", Budget(2**30, 100))
    begun, done = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncGenerator[bytes, None]:
        yield bytes(uploads.SMALL)
        begun.set()
        await done.wait()

    def at_another_address(client: httpx.AsyncClient) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
        return httpx.AsyncClient(transport=transport, base_url=client.base_url, headers=client.headers)

    png = {"Content-Type": "image/png"}
    first = asyncio.create_task(alice.put("/v1/users/me/avatar", content=body(), headers=png))
    await begun.wait()
    async with at_another_address(alice) as elsewhere, at_another_address(charlie) as another:
        large = {"content": bytes(uploads.SMALL + 1), "headers": png}
        assert (await elsewhere.put("/v1/users/me/avatar", **large)).status_code == 503
        assert (await another.put("/v1/users/me/avatar", **large)).status_code == 415
    done.set()
    assert (await first).status_code == 415


class Route:
    def __init__(self, most: int, **opt: Any) -> None:
        self.most = most
        self.opt = opt

    def resolve_request_max_body_size(self) -> int:
        return self.most


async def test_a_body_of_unknown_size_is_read_no_further_than_its_route_accepts() -> None:
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 65536
        return {"type": "http.request", "body": bytes(65536), "more_body": True}

    async def app(_: Any, receive: Any, __: Any) -> None:
        await receive()

    given = scope(transfer_encoding="chunked") | {"route_handler": Route(2**20)}
    with pytest.raises(TooLarge):
        await Uploads(app)(given, receive, never)
    assert read == 2**20 + 65536
    assert budget.UPLOADS_ON_DISK.used == 0


async def test_a_chunked_body_is_too_large_for_its_route(alice: httpx.AsyncClient) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        for _ in range(17):
            yield b" " * 65536

    answer = await alice.post("/v1/characters", content=body(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("headers", "opt", "in_memory"),
    [
        ({"content_type": "application/json"}, {}, SIZE),
        ({"content_type": "multipart/form-data; boundary=x"}, {}, SIZE),
        ({"content_type": "multipart/form-data; boundary=x"}, {"one_file_at_a_time": True}, 0),
        (
            {"content_type": "multipart/form-data; boundary=x", "idempotency_key": "k"},
            {"one_file_at_a_time": True},
            0,
        ),
    ],
)
async def test_what_a_route_will_have_in_memory_is_within_the_budget(
    headers: dict[str, str], opt: dict[str, Any], in_memory: int
) -> None:
    used: list[int] = []

    async def app(_: Any, receive: Any, __: Any) -> None:
        await receive()
        used.append(budget.UPLOADS_IN_MEMORY.used)

    async def receive() -> Any:
        return {"type": "http.request", "body": bytes(SIZE), "more_body": False}

    given = scope(content_length=str(SIZE), **headers) | {"route_handler": Route(2 * SIZE, **opt)}
    await Uploads(app)(given, receive, never)
    assert used == [in_memory]
    assert budget.UPLOADS_IN_MEMORY.used == 0


async def test_a_file_of_an_import_is_read_when_there_is_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(1, waiting=6, waiting_of_caller=3, refusal="")
    monkeypatch.setattr(imports, "_TURNS", turns)
    reads = 0

    async def read() -> bytes:
        nonlocal reads
        reads += 1
        return b"no card"

    async with turns.turn():
        waiting = [asyncio.create_task(imports.store_card("a", b"PK", read, room=1, dry_run=True)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert reads == 0
    await asyncio.gather(*waiting)
    assert reads == 3


async def test_a_text_does_not_wait_for_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(1, waiting=6, waiting_of_caller=3, refusal="")
    monkeypatch.setattr(imports, "_TURNS", turns)

    async def read() -> bytes:
        return b"no card"

    async with turns.turn():
        await asyncio.wait_for(imports.store_card("a", b'{"na', read, room=1, dry_run=True), 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(imports.store_card("a", b"\x89PNG", read, room=1, dry_run=True), 0.05)


async def test_a_body_that_was_quick_at_first_may_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_shedding, "BODY_PATIENCE", 0.1)
    pieces = [{"type": "http.request", "body": bytes(SIZE), "more_body": True}]  # worth five minutes

    async def receive() -> Any:
        return pieces.pop() if pieces else await never()

    async def app(_: Any, receive: Any, __: Any) -> None:
        while True:
            await receive()

    with pytest.raises(RequestTimeout):
        await asyncio.wait_for(LoadShedding(app, max_in_flight=1)(scope(), receive, never), 2)


async def test_a_response_that_has_started_is_not_shed() -> None:
    """A streamed response reads on to notice that its client leaves."""
    shedding = LoadShedding(lambda *_: never(), max_in_flight=1)
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)
        assert shedding.in_flight == (message["type"] == "http.response.start")

    async def app(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        shedding.enter("another")  # meanwhile, the worker has enough to do
        assert (await receive())["type"] == "http.request"
        shedding.leave("another")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    shedding.app = app
    await shedding(scope(), nothing, send)
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert shedding.in_flight == 0


async def test_a_request_that_waits_twice_for_its_client_is_counted_once() -> None:
    shedding = LoadShedding(lambda *_: never(), max_in_flight=4)

    async def app(_: Any, receive: Any, send: Any) -> None:
        waits = [receive(), send({"type": "http.response.body", "body": b"", "more_body": False})]
        tasks = [asyncio.create_task(each) for each in waits]
        await asyncio.sleep(0.01)
        assert shedding.in_flight == 0
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert shedding.in_flight == 1

    shedding.app = app
    await shedding(scope(), never, never)
    assert shedding.in_flight == 0


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
