"""Reads of single rows at the same time share a query. Results, permissions, errors and transactions stay separate."""

import asyncio
from contextvars import Context
from typing import Any
from uuid import uuid4

import httpx

from service.callers import ANONYMOUS
from service.characters.queries import get_character
from service.database.coalesced import MAX_TOGETHER
from service.database.engine import DB
from service.errors import NotFound
from tests.conftest import character

Client = httpx.AsyncClient


async def test_each_caller_gets_the_same_as_alone(
    stranger: Client, alice: Client, charlie: Client, statements: list[str]
) -> None:
    ids = [(await character(alice, visibility=each))["id"] for each in ("private", "unlisted", "public")]
    ids += [str(uuid4()), ids[0]]  # a missing one, and a repeated one
    requests = [(reader, f"/v1/characters/{each}") for each in ids for reader in (stranger, alice, charlie)] * 2
    alone = [await reader.get(path) for reader, path in requests]
    await asyncio.sleep(0)  # asyncpg logs queries in the next step of the loop
    statements.clear()
    together = await asyncio.gather(*(reader.get(path) for reader, path in requests))
    await asyncio.sleep(0)
    for one, other in zip(alone, together, strict=True):
        assert one.status_code == other.status_code
        assert one.headers.get("ETag") == other.headers.get("ETag")
        if one.is_success:
            assert one.content == other.content
    assert [answer.status_code for answer in together] == [404, 200, 404, *[200] * 6, *[404] * 3, 404, 200, 404] * 2
    assert len(requests) > MAX_TOGETHER
    assert 1 < len(statements) < len(requests) / 2


async def test_cancelling_one_read_leaves_the_others(alice: Client) -> None:
    made = await character(alice, visibility="public")
    readers = [asyncio.create_task(get_character(ANONYMOUS, made["id"])) for _ in range(3)]
    await asyncio.sleep(0)  # all three now wait
    readers[0].cancel()
    rows = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(rows[0], asyncio.CancelledError)
    assert [str(row["id"]) for row in rows[1:]] == [made["id"]] * 2


async def test_every_caller_gets_the_error(app: Any) -> None:
    unreadable = [get_character(ANONYMOUS, "no id at all") for _ in range(2)]  # a wrong type on purpose
    failures = await asyncio.gather(*unreadable, return_exceptions=True)
    assert all(isinstance(failure, Exception) and not isinstance(failure, NotFound) for failure in failures)


async def test_a_transaction_reads_what_it_has_written(alice: Client) -> None:
    made = await character(alice, visibility="public")
    async with DB.transaction() as transaction:
        await transaction.connection.execute("UPDATE characters SET name = 'Written here' WHERE id = $1", made["id"])
        here, elsewhere = await asyncio.gather(
            get_character(ANONYMOUS, made["id"]),
            asyncio.create_task(get_character(ANONYMOUS, made["id"]), context=Context()),
        )
        assert "Written here" in here["item"]
        assert "Written here" not in elsewhere["item"]
        await transaction.rollback()
