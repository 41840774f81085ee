"""No user and no address holds more than a share of the connections of a worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from service.database import embedded, engine
from service.database.shares import ON_BEHALF_OF, SHARES, SHARES_OF_ADDRESSES, Shares
from service.settings import settings
from tests.conftest import DATA_DIR, character, client, signed_in

Client = httpx.AsyncClient


@asynccontextmanager
async def locked(statement: str) -> AsyncIterator[asyncpg.Connection]:
    database = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        await database.execute(f"BEGIN; {statement}")
        yield database
    finally:
        await database.close()


async def most_waiting(database: asyncpg.Connection, query: str, requests: list["asyncio.Task[httpx.Response]"]) -> int:
    """How many connections wait for the lock with a query like ``query``; the service's own work has others."""
    most = 0
    for _ in range(15):
        await asyncio.sleep(0.01)
        await database.execute("SELECT pg_stat_clear_snapshot()")
        waiting = await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE $1",
            query,
        )
        most = max(most, waiting)
    assert not any(request.done() for request in requests)
    return most


async def test_requests_of_one_user_wait_for_each_other_and_not_for_others(
    app: Any, alice: Client, charlie: Client
) -> None:
    mira, other = await character(alice), await character(charlie)
    async with locked("SELECT FROM characters FOR UPDATE") as database:
        path, body = f"/v1/characters/{mira['id']}", {"name": "Mira Halloran"}
        requests = [asyncio.create_task(alice.patch(path, json=body)) for _ in range(8)]
        assert await most_waiting(database, "%characters%", requests) == SHARES.most
        for _ in range(3):
            assert (await charlie.get(f"/v1/characters/{other['id']}")).status_code == 200
            assert (await charlie.post("/v1/characters", json={"name": "Otto"})).status_code == 201
    assert [answer.status_code for answer in await asyncio.gather(*requests)] == [200] * 8
    assert not SHARES._held


async def test_requests_of_one_address_wait_for_each_other_and_not_for_others(app: Any) -> None:
    async with locked("LOCK TABLE users IN ACCESS EXCLUSIVE MODE") as database:
        profiles = "%/avatar%"  # only the query of a profile says where its avatar is
        one, two = client(app, "192.0.2.1"), client(app, "192.0.2.2")
        requests = [asyncio.create_task(one.get("/v1/users/nobody")) for _ in range(8)]
        assert await most_waiting(database, profiles, requests) == SHARES.most
        more = [asyncio.create_task(two.get("/v1/users/nobody")) for _ in range(8)]
        assert await most_waiting(database, profiles, [*requests, *more]) == 2 * SHARES.most
        assert (await one.get("/health/ready")).json()["checks"]["database"] == "ok"
    assert [answer.status_code for answer in await asyncio.gather(*requests, *more)] == [404] * 16
    assert not SHARES._held


@pytest.mark.parametrize(("members", "most"), [(1, SHARES.most), (2, 2 * SHARES.most), (4, SHARES_OF_ADDRESSES.most)])
async def test_all_requests_of_an_address_leave_a_third_to_others(app: Any, members: int, most: int) -> None:
    at_one_address = [await signed_in(app, f"member{number}") for number in range(members)]
    paths = [f"/v1/characters/{(await character(member))['id']}" for member in at_one_address]
    elsewhere = client(app, "192.0.2.1", **(await signed_in(app, "charlie")).headers)
    assert most <= settings.database_pool_size * 2 // 3
    async with locked("SELECT FROM characters FOR UPDATE") as database:
        requests = [
            asyncio.create_task(member.patch(path, json={"name": "Mira Halloran"}))
            for member, path in zip(at_one_address, paths, strict=True)
            for _ in range(8)
        ]
        assert await most_waiting(database, "%characters%", requests) == most
        for _ in range(3):
            answer = await asyncio.wait_for(elsewhere.post("/v1/characters", json={"name": "Otto"}), 2)
            assert answer.status_code == 201
    assert [answer.status_code for answer in await asyncio.gather(*requests)] == [200] * 8 * members
    assert not SHARES._held
    assert not SHARES_OF_ADDRESSES._held


@pytest.mark.parametrize("name", ["SHARES", "SHARES_OF_ADDRESSES"])
async def test_whoever_waits_too_long_is_told_to_come_back(
    alice: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def wait(*_: Any) -> None:
        raise TimeoutError

    shares = getattr(engine, name)
    monkeypatch.setattr(shares, "most", 0)
    monkeypatch.setattr(shares, "wait", wait)
    refused = await alice.get("/v1/users/me")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert not SHARES._held
    assert not SHARES_OF_ADDRESSES._held


async def test_a_share_is_given_to_the_first_who_waits() -> None:
    shares, order = Shares(1), []

    async def use(name: str) -> None:
        if not shares.take("a"):
            await shares.wait("a", 1)
        order.append(name)
        await asyncio.sleep(0)
        shares.give_back("a")

    await asyncio.gather(*(use(name) for name in "abcd"))
    assert order == ["a", "b", "c", "d"]
    assert not shares._held
    assert not shares._waiting


async def test_a_share_that_nobody_takes_is_not_lost() -> None:
    shares = Shares(1)
    assert shares.take("a")
    with pytest.raises(TimeoutError):
        await shares.wait("a", 0.001)
    assert shares.waiting == 0
    waiting = asyncio.create_task(shares.wait("a", 1))
    await asyncio.sleep(0)
    shares.give_back("a")
    waiting.cancel()  # at the moment in which its turn came
    await asyncio.gather(waiting, return_exceptions=True)
    assert not shares._held
    assert not shares._waiting


async def test_the_service_itself_has_no_share(alice: Client) -> None:
    await alice.get("/v1/users/me")
    assert ON_BEHALF_OF.get() is None
