"""A thousand connections that are held, in every way there is, and what they change for others: nothing."""

import asyncio
import itertools
import os
import resource
import socket
import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR, PASSWORD
from tests.support.servers import Service, worker_of_its_own

pytestmark = pytest.mark.slow

HELD = 250  # in each of four ways
HEAD = b"%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
WAYS = {
    "idle": HEAD % b"GET /health/live" + b"\r\n",
    "slow headers": HEAD % b"GET /v1/nowhere",
    "slow bodies": HEAD % b"POST /v1/users" + b"Content-Length: 9000\r\n\r\n{",
    "slow readers": (HEAD % b"GET /openapi.json" + b"\r\n") * 10,
}


@pytest.fixture(scope="module")
def service(database: None) -> Iterator[Service]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with worker_of_its_own(DATABASE_URL=embedded.dsn(DATA_DIR), RATE_LIMIT_SCALE="1000") as service:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # what the service is started with, most of the time
        service.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        yield service
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def held(service: Service, sent: bytes) -> AsyncIterator[None]:
    sockets = [socket.socket() for _ in range(HELD)]
    loop = asyncio.get_running_loop()
    try:
        for each in sockets:
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            await loop.sock_connect(each, ("127.0.0.1", service.port))
            await loop.sock_sendall(each, sent)
        yield
    finally:
        for each in sockets:
            each.close()


async def milliseconds(requests: Callable[[], "asyncio.Future[httpx.Response]"], status: int) -> list[float]:
    answers = [await requests() for _ in range(100)]
    assert {answer.status_code for answer in answers} == {status}
    return [answer.elapsed.total_seconds() * 1000 for answer in answers]


async def test_a_thousand_held_connections_change_nothing_for_others(service: Service) -> None:
    accounts = itertools.count()

    def sign_up() -> "asyncio.Future[httpx.Response]":
        name = f"held-{next(accounts)}"
        body = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        return asyncio.ensure_future(client.post("/v1/users", json=body))

    def read() -> "asyncio.Future[httpx.Response]":
        return asyncio.ensure_future(client.get("/v1/characters"))

    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client, AsyncExitStack() as stack:
        before = [await milliseconds(read, 200), await milliseconds(sign_up, 201)]
        for sent in WAYS.values():
            await stack.enter_async_context(held(service, sent))
        async with asyncio.timeout(30):
            while open_files(service) < len(WAYS) * HELD or await in_flight(client):
                await asyncio.sleep(0.1)
        meanwhile = [await milliseconds(read, 200), await milliseconds(sign_up, 201)]
        for usual, now in zip(before, meanwhile, strict=True):
            assert statistics.median(now) < 3 * statistics.median(usual) + 5
        assert open_files(service) > len(WAYS) * HELD, "they are still there"
        assert await in_flight(client) == 0
        assert (await client.get("/health/ready")).json()["status"] == "ok"
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client, asyncio.timeout(10):
        while open_files(service) > HELD:
            assert (await client.get("/health/live")).status_code == 200
    assert "Traceback" not in service.output


async def in_flight(client: httpx.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("requests_in_flight "))


def open_files(service: Service) -> int:
    assert service.process is not None
    return len(os.listdir(Path(f"/proc/{service.process.pid}/fd")))
