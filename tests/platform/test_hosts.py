"""Several hosts in DATABASE_URL: some hang, refuse or only read, and one can be used."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from service.database import embedded, hosts
from service.database.embedded_cluster import Place
from service.database.hosts import connect, split_hosts
from service.database.pool import create_pool
from tests.conftest import DATA_DIR
from tests.support.servers import free_port, standby_of_its_own


@asynccontextmanager
async def hanging_host() -> AsyncIterator[tuple[str, list[None]]]:
    """Accepts connections and never says anything. Yields its address, and an item for each connection."""
    connections: list[None] = []
    ending = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(None)
        await ending.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
        ending.set()


def real_host() -> str:
    """The tests' own PostgreSQL."""
    return quote(parse_qs(urlsplit(embedded.dsn(DATA_DIR)).query)["host"][0], safe="")


@pytest.fixture(autouse=True)
def forget_hosts() -> None:
    hosts._hosts.cache_clear()


async def seconds_to_connect(dsn: str) -> float:
    began = time.monotonic()
    connection = await connect(dsn)
    try:
        assert await connection.fetchval("SELECT current_database()") == "service"
    finally:
        await connection.close()
    return time.monotonic() - began


async def test_a_host_that_hangs_costs_two_seconds_once(database: None) -> None:
    async with hanging_host() as (hanging, connections):
        dsn = f"postgresql://service@{hanging},{real_host()}/service"
        assert 1.9 < await seconds_to_connect(dsn) < 3
        assert [await seconds_to_connect(dsn) < 0.5 for _ in range(3)] == [True] * 3
        assert len(connections) == 1
        pool = await create_pool(dsn)
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW application_name") == "character-service"
        await pool.close()
        assert len(connections) == 1


async def test_a_host_that_refuses_costs_nothing(database: None) -> None:
    closed = f"127.0.0.1:{free_port()}"
    dsn = f"postgresql://service@{closed},{real_host()}/service"
    assert await seconds_to_connect(dsn) < 0.5


async def test_the_reason_of_each_host_is_told_without_the_password(database: None) -> None:
    closed = f"127.0.0.1:{free_port()}"
    async with hanging_host() as (hanging, _):
        with pytest.raises(ConnectionError) as raised:
            await connect(f"postgresql://service:secret@{hanging},{closed}/service")
    assert str(raised.value).startswith(f"{hanging}: no answer within 2 s; {closed}: [Errno 111]")
    assert "secret" not in str(raised.value)


async def test_a_refused_role_is_not_tried_elsewhere(database: None) -> None:
    async with hanging_host() as (hanging, connections):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match='role "nobody" does not exist'):
            await connect(f"postgresql://nobody@{real_host()},{hanging}/service")
        assert connections == []


async def test_a_host_that_only_reads_is_left_out_unless_any_will_do(database: None) -> None:
    operator = await asyncpg.connect(embedded.dsn(DATA_DIR).replace("service@/service", "postgres@/postgres"))
    try:
        await operator.execute("ALTER ROLE service SET default_transaction_read_only = on")
        hosts_of_both = f"postgresql://service@{real_host()},{real_host()}/service"
        with pytest.raises(ConnectionError, match="it is a standby, or only reads"):
            await connect(hosts_of_both)
        await seconds_to_connect(f"{hosts_of_both}?target_session_attrs=any")
        await seconds_to_connect(f"postgresql://service@{real_host()}/service")  # a single host is not asked
    finally:
        await operator.execute("ALTER ROLE service RESET default_transaction_read_only")
        await operator.close()


@pytest.mark.slow
async def test_a_standby_is_left_out(database: None) -> None:
    """A real one: a copy of a cluster, which stays in recovery."""
    with standby_of_its_own() as standby:
        socket = quote(str(Place(standby).socket.parent), safe="")
        async with hanging_host() as (hanging, _):
            dsn = f"postgresql://service@{socket},{hanging},{real_host()}/service"
            assert 1.9 < await seconds_to_connect(dsn) < 3.5
            connection = await connect(dsn)
            assert await connection.fetchval("SELECT pg_is_in_recovery()") is False
            await connection.close()
            for target in ("standby", "prefer-standby", "read-only"):
                connection = await connect(f"{dsn}?target_session_attrs={target}")
                assert await connection.fetchval("SELECT pg_is_in_recovery()") is True, target
                await connection.close()


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://u:p@one/d", ["postgresql://u:p@one/d"]),
        ("postgresql://u@one:1,[::1]:2/d?a=b", ["postgresql://u@one:1/d?a=b", "postgresql://u@[::1]:2/d?a=b"]),
        ("postgresql://u@/d?host=/a&port=1", ["postgresql://u@/d?host=/a&port=1"]),
        (
            "postgresql://u@/d?host=/a,two&port=1,2&sslmode=disable",
            ["postgresql://u@/d?host=/a&port=1&sslmode=disable", "postgresql://u@/d?host=two&port=2&sslmode=disable"],
        ),
        (
            "postgresql://u@/d?host=one,two&port=1",
            ["postgresql://u@/d?host=one&port=1", "postgresql://u@/d?host=two&port=1"],
        ),
    ],
)
def test_hosts_are_split(dsn: str, expected: list[str]) -> None:
    assert split_hosts(dsn) == expected
