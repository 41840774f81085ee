"""What a request leaves in memory. Its body, up to 50 MiB, must not wait for Python's collector of cycles, each run of
which delays all requests, nor for the next request on its connection."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tests.conftest import character
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient
LARGE = "y" * 200_000
PNG = {"Content-Type": "image/png"}


@pytest.fixture
async def server(app: Any) -> AsyncIterator[uvicorn.Server]:
    """A real one, because the cycles of requests went through its objects."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http="httptools", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        server.config.port = listener.getsockname()[1]
        yield server
        server.should_exit = True
        await serving


@pytest.fixture
async def remote(server: uvicorn.Server, alice: Client) -> AsyncIterator[Client]:
    headers = {"Authorization": alice.headers["Authorization"], "Host": "localhost"}
    async with Client(base_url=f"http://127.0.0.1:{server.config.port}", headers=headers) as remote:
        yield remote


async def _import(remote: Client, mira: Any, **headers: str) -> httpx.Response:
    return await remote.post("/v1/imports", files={"file": ("a.json", b"{" + b" " * 300_000)}, headers=headers)


REQUESTS: dict[str, tuple[int, Callable[[Client, Any], Awaitable[httpx.Response]]]] = {
    "list": (200, lambda remote, _: remote.get("/v1/characters")),
    "one": (200, lambda remote, mira: remote.get(f"/v1/characters/{mira['id']}")),
    "create": (201, lambda remote, _: remote.post("/v1/characters", json={"name": "Odo"})),
    "create large": (
        201,
        lambda remote, _: remote.post("/v1/characters", json={"name": "O", "extensions": {"x": LARGE}}),
    ),
    "dry run": (200, lambda remote, _: remote.post("/v1/characters?dry_run=true", json={"name": "Odo"})),
    "idempotent": (
        201,
        lambda remote, _: remote.post("/v1/characters", json={"name": "Odo"}, headers={"Idempotency-Key": "k"}),
    ),
    "import": (200, _import),
    "idempotent import": (200, lambda remote, mira: _import(remote, mira, **{"Idempotency-Key": "i"})),
    "portrait": (
        200,
        lambda remote, mira: remote.put(
            f"/v1/characters/{mira['id']}/portrait", content=draw_picture(width=300, height=300), headers=PNG
        ),
    ),
    "export": (200, lambda remote, _: remote.get("/v1/users/me/export")),
    "not found": (404, lambda remote, _: remote.get("/v1/characters/nobody")),
    "not valid": (422, lambda remote, _: remote.post("/v1/characters", json={"name": 7})),
    "change not valid": (422, lambda remote, mira: remote.patch(f"/v1/characters/{mira['id']}", json={"name": 7})),
    "row sent back, not valid": (
        422,
        lambda remote, mira: remote.patch(f"/v1/characters/{mira['id']}", json={"id": mira["id"], "revision": "x"}),
    ),
    "stale": (
        412,
        lambda remote, mira: remote.patch(
            f"/v1/characters/{mira['id']}", json={"name": "M"}, headers={"If-Match": '"0"'}
        ),
    ),
    "broken rules": (422, lambda remote, _: remote.post("/v1/characters", json={"name": "O", "template_version": 1})),
    "several, not valid": (422, lambda remote, _: remote.post("/v1/characters/bulk", json={"characters": [{}, 1]})),
    "no picture": (
        415,
        lambda remote, mira: remote.put(f"/v1/characters/{mira['id']}/portrait", content=b"no", headers=PNG),
    ),
    "no card": (200, lambda remote, _: remote.post("/v1/imports", files={"file": ("a.json", b"[]")})),
    "bad query": (400, lambda remote, _: remote.get("/v1/characters?limit=x")),
    "taken": (409, lambda remote, _: remote.post("/v1/users", json=TAKEN)),
    "no JSON": (400, lambda remote, _: remote.post("/v1/characters", content=b"{" + LARGE.encode(), headers=JSON)),
    "no token": (401, lambda remote, _: remote.get("/v1/users/me", headers={"Authorization": "Bearer x"})),
}
JSON = {"Content-Type": "application/json"}
TAKEN = {"username": "alice", "email": "alice@example.com", "password": "correct horse battery"}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_leaves_no_cycle(alice: Client, remote: Client, name: str) -> None:
    status, send = REQUESTS[name]
    mira = await character(alice)
    await send(remote, mira)  # the first request may build what stays
    await remote.get("/health/live")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            assert (await send(remote, mira)).status_code == status
        await remote.get("/health/live")  # the server lets go of a request when the next one begins
        gc.collect()
        left = [each for each in gc.garbage if isinstance(each, RequestResponseCycle | Request | Exception)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_idle_connection_keeps_nothing_of_its_last_request(
    alice: Client, remote: Client, server: uvicorn.Server, name: str
) -> None:
    status, send = REQUESTS[name]
    assert (await send(remote, await character(alice))).status_code == status
    (connection,) = server.server_state.connections
    assert isinstance(connection, HttpToolsProtocol)
    async with asyncio.timeout(10):
        while [*connection.scope["state"]] != ["request_id"]:  # the request ends a little after its response
            await asyncio.sleep(0.01)
    assert len(connection.cycle.body) == 0


async def test_the_collector_passes_over_what_the_start_made(app: Any) -> None:
    assert gc.get_freeze_count() > 50_000
