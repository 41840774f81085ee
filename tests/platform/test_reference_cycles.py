"""A request leaves nothing to Python's collector of cycles: else its body, up to 50 MiB, would stay in memory until the
collector runs, and each run of it, which takes longer the more it finds, delays all requests."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.conftest import character
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient
LARGE = "y" * 200_000
PNG = {"Content-Type": "image/png"}


@pytest.fixture
async def remote(app: Any, alice: Client) -> AsyncIterator[Client]:
    """Alice at a real server, because the cycles of requests went through its objects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http="httptools", ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        headers = {name: value for name, value in alice.headers.items() if name == "authorization"}
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with Client(base_url=url, headers=headers | {"Host": "localhost"}) as remote:
            yield remote
        server.should_exit = True
        await serving


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
    "no JSON": (400, lambda remote, _: remote.post("/v1/characters", content=b"{" + LARGE.encode(), headers=JSON)),
    "no token": (401, lambda remote, _: remote.get("/v1/users/me", headers={"Authorization": "Bearer x"})),
}
JSON = {"Content-Type": "application/json"}


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
        left = [each for each in gc.garbage if isinstance(each, RequestResponseCycle)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
