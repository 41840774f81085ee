"""A worker at its capacity refuses more requests at once, and still answers health checks."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR
from tests.support.servers import Service, worker_of_its_own

MOST, POOL = 6, 2
UNLIMITED = httpx.Limits(max_connections=None)


@pytest.fixture(scope="module")
def service(database: None) -> Iterator[Service]:
    with worker_of_its_own(
        DATABASE_URL=embedded.dsn(DATA_DIR),
        DATABASE_POOL_SIZE=str(POOL),
        DATABASE_LOCK_TIMEOUT="20",
        DATABASE_STATEMENT_TIMEOUT="20",
        DATABASE_ACQUIRE_TIMEOUT="20",
        MAX_REQUESTS_IN_FLIGHT=str(MOST),
        RATE_LIMIT_SCALE="100",
    ) as service:
        yield service.start()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=20, limits=UNLIMITED) as client:
        yield client


@asynccontextmanager
async def busy(client: httpx.AsyncClient) -> AsyncIterator[list["asyncio.Task[httpx.Response]"]]:
    """Fills the capacity with requests of two addresses, which all wait for the database."""
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2", limits=UNLIMITED)
    other = httpx.AsyncClient(base_url=client.base_url, timeout=20, transport=transport)
    database = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        await database.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        each = (client, other) * (MOST // 2)
        requests = [asyncio.create_task(one.get("/v1/users/nobody")) for one in each]
        async with asyncio.timeout(10):
            while await in_flight(client) < MOST:
                await asyncio.sleep(0.02)
        yield requests
    finally:
        await database.close()
        await asyncio.gather(*requests)
        await other.aclose()


async def metric(client: httpx.AsyncClient, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def in_flight(client: httpx.AsyncClient) -> float:
    return await metric(client, "requests_in_flight")


async def test_excess_requests_are_refused_at_once_and_counted(client: httpx.AsyncClient, service: Service) -> None:
    shed = await metric(client, "requests_shed_total")
    async with busy(client) as requests:
        for method, path in (("GET", "/v1/nowhere"), ("POST", "/v1/characters")):
            answer = await client.request(method, path, json={})
            assert answer.status_code == 503
            assert answer.json()["type"] == "/problems/unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.elapsed.total_seconds() < 1
        with service.client(address="127.0.0.3") as third:
            assert third.get("/v1/nowhere").status_code == 503
        assert await metric(client, "requests_shed_total") == shed + 3
        assert not any(request.done() for request in requests)
    assert [answer.status_code for answer in await asyncio.gather(*requests)] == [404] * MOST
    assert (await client.get("/v1/nowhere")).status_code == 404
    assert await in_flight(client) == 0
    assert "could not be served" not in service.output, "the access line says it"


async def test_one_address_gets_at_most_half_of_the_capacity(service: Service, client: httpx.AsyncClient) -> None:
    database = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        await database.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        requests = [asyncio.create_task(client.get("/v1/users/nobody")) for _ in range(MOST)]
        async with asyncio.timeout(10):
            while await in_flight(client) < MOST // 2 or sum(request.done() for request in requests) < MOST // 2:
                await asyncio.sleep(0.02)
        assert (await client.get("/v1/nowhere")).status_code == 503
        with service.client(address="127.0.0.2") as other:
            assert other.get("/v1/nowhere").status_code == 404
    finally:
        await database.close()
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*requests))
    assert statuses == [404] * (MOST // 2) + [503] * (MOST // 2)


async def test_health_checks_answer_under_overload(client: httpx.AsyncClient) -> None:
    async with busy(client) as requests:
        for path in ("/health/live", "/health/ready", "/metrics", "/problems/"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < 1
        ready = (await client.get("/health/ready")).json()
        assert ready["status"] == "degraded"
        assert ready["checks"]["database"] == "busy"
    await asyncio.gather(*requests)
    assert (await client.get("/health/ready")).json()["status"] == "ok"


async def test_slow_bodies_use_no_capacity(service: Service, client: httpx.AsyncClient) -> None:
    head = b"POST /v1/users HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
    held = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(MOST * 3)]
    for _, writer in held:
        writer.write(head)
        await writer.drain()
    assert await in_flight(client) == 0
    assert (await client.get("/v1/nowhere")).status_code == 404
    async with busy(client) as requests:
        reader, writer = held.pop()
        writer.write(b"}")
        assert b"503" in await reader.readline()
        writer.close()
    await asyncio.gather(*requests)
    for reader, writer in held:
        writer.write(b"}")
        assert b"422" in await reader.readline()
        writer.close()


async def test_a_disconnected_client_frees_its_capacity_and_logs_no_error(
    service: Service, client: httpx.AsyncClient
) -> None:
    head = b"POST /v1/users HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    for _ in range(MOST * 2):
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(head)
        await writer.drain()
        writer.close()
    async with asyncio.timeout(5):
        while service.output.count("POST /v1/users 400") < MOST * 2 or await in_flight(client):
            await asyncio.sleep(0.02)
    answers = await asyncio.gather(*(client.get("/v1/nowhere") for _ in range(MOST // 2)))
    assert {answer.status_code for answer in answers} == {404}
    assert service.output.count("POST /v1/users 400") == MOST * 2
    assert "Traceback" not in service.output
