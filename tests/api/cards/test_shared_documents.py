"""Copies of a character share the data of its card, until one of them changes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from service.cards.tables import CardDocument
from service.commands.purge import purge_everything
from service.database import embedded
from service.database.engine import DB
from tests.conftest import DATA_DIR, public
from tests.support.cards import V3, imported, in_json
from tests.support.locks import until_waiting

Client = httpx.AsyncClient


async def copied(member: Client, path: str) -> str:
    copy = await member.post(f"{path}/copies")
    assert copy.status_code == 201
    return f"/v1/characters/{copy.json()['id']}"


async def nickname(member: Client, path: str) -> Any:
    return (await member.get(f"{path}/card")).json()["data"].get("nickname")


async def call(member: Client, path: str, name: str) -> None:
    assert (await member.put(f"{path}/card", json={"nickname": name})).status_code == 200


async def of_an_import(member: Client) -> str:
    return f"/v1/characters/{(await imported(member, in_json(V3)))['character']['id']}"


async def end(member: Client, path: str) -> None:
    assert (await member.delete(path)).status_code == 204
    assert (await member.delete(path.replace("characters", "trash"))).status_code == 204


async def test_copies_share_a_document_until_one_changes_it(alice: Client) -> None:
    original = await of_an_import(alice)
    copies = [await copied(alice, original) for _ in range(5)]
    copies.append(await copied(alice, copies[0]))
    assert await CardDocument.count() == 1
    await call(alice, copies[0], "Copy")
    assert await CardDocument.count() == 2
    before = await nickname(alice, original)
    assert [await nickname(alice, path) for path in copies] == ["Copy", *[before] * 5]
    await call(alice, original, "Original")
    assert [await nickname(alice, path) for path in (original, *copies)] == ["Original", "Copy", *[before] * 5]
    assert await CardDocument.count() == 3


async def test_a_document_is_deleted_with_the_last_card_that_has_it(alice: Client) -> None:
    original = await of_an_import(alice)
    copy = await copied(alice, original)
    await call(alice, original, "Original")
    await end(alice, original)
    assert await CardDocument.count() == 1
    await call(alice, copy, "Copy")
    assert (await CardDocument.count(), await nickname(alice, copy)) == (1, "Copy")
    await end(alice, copy)
    assert await CardDocument.count() == 0


async def test_copies_in_one_purge(alice: Client) -> None:
    original = await of_an_import(alice)
    for path in (await copied(alice, original), await copied(alice, original), original):
        await alice.delete(path)
    await DB.run_ddl("UPDATE characters SET deleted_at = now() - interval '31 days'")
    await purge_everything()
    assert await CardDocument.count() == 0


async def test_a_dry_run_of_a_change_leaves_the_document(alice: Client) -> None:
    original = await of_an_import(alice)
    before = await nickname(alice, original)
    copy = await copied(alice, original)
    assert (await alice.put(f"{copy}/card?dry_run=true", json={"nickname": "Dry"})).status_code == 200
    assert (await CardDocument.count(), await nickname(alice, copy)) == (1, before)


@asynccontextmanager
async def another() -> AsyncIterator[asyncpg.Connection]:
    """A transaction beside those of the service. It ends with the block."""
    database = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        async with database.transaction():
            yield database
    finally:
        await database.close()


NEW_DOCUMENT = """
    WITH document AS (INSERT INTO card_documents (id, data) VALUES ($1, '{"nickname": "New"}'))
    UPDATE cards SET document = $1 WHERE character = $2
"""


async def change_uncommitted(database: asyncpg.Connection, path: str) -> None:
    await database.execute(NEW_DOCUMENT, uuid4(), path.rpartition("/")[2])


async def test_a_copy_waits_for_a_change_of_the_card(alice: Client, charlie: Client) -> None:
    shown = await public(alice)
    path = f"/v1/characters/{shown['id']}"
    await call(alice, path, "Old")
    async with another() as database:
        await change_uncommitted(database, path)
        copying = asyncio.create_task(copied(charlie, path))
        await until_waiting(copying)
        assert not copying.done()
    assert await nickname(charlie, await copying) == "New"


async def test_of_two_changes_at_once_the_later_deletes_the_shared_document(alice: Client, charlie: Client) -> None:
    shown = await public(alice)
    original = f"/v1/characters/{shown['id']}"
    await call(alice, original, "Shared")
    copy = await copied(charlie, original)
    async with another() as database:
        await change_uncommitted(database, original)
        changing = asyncio.create_task(call(charlie, copy, "Copy"))
        await until_waiting(changing)
        assert not changing.done()
    await changing
    assert (await nickname(alice, original), await nickname(charlie, copy)) == ("New", "Copy")
    assert await CardDocument.count() == 2


@pytest.mark.parametrize("is_file", [False, True])
async def test_a_change_locks_the_usage_before_the_card(alice: Client, is_file: bool) -> None:
    """As a copy of an own character does. In another order the two would wait for each other."""
    path = await of_an_import(alice)
    async with another() as database:
        await database.execute("SELECT FROM user_usage FOR UPDATE")
        card = in_json(V3 | {"data": V3["data"] | {"nickname": "New"}})
        sent: Any = {"files": {"file": ("a.json", card)}} if is_file else {"json": {"nickname": "New"}}
        changing = asyncio.create_task(alice.put(f"{path}/card", **sent))
        await until_waiting(changing)
        assert not changing.done()
        await database.execute("SELECT FROM cards FOR SHARE NOWAIT")
    assert (await changing).status_code == 200
    assert await nickname(alice, path) == "New"


async def test_copies_and_changes_at_once_lose_no_card(alice: Client, charlie: Client) -> None:
    """A copy has the card from before or after a change. No document is left without a card."""
    shown = await public(alice)
    path = f"/v1/characters/{shown['id']}"
    names = [f"Name {number}" for number in range(12)]
    await call(alice, path, "First")
    copies = asyncio.gather(*(copied(member, path) for member in (alice, charlie) * 12))
    await asyncio.gather(copies, *(call(alice, path, name) for name in names))
    of_alice, of_charlie = copies.result()[::2], copies.result()[1::2]
    read = [await nickname(alice, copy) for copy in of_alice] + [await nickname(charlie, copy) for copy in of_charlie]
    assert set(read) <= {"First", *names}
    await asyncio.gather(
        *(call(alice, copy, "Another") for copy in of_alice), *(call(charlie, copy, "Other") for copy in of_charlie)
    )
    assert await CardDocument.count() == 25
    used = await DB._run_in_pool("SELECT sum(stored_bytes) AS bytes FROM user_usage")
    stored = await DB._run_in_pool("SELECT sum(octet_length(data::text)) AS bytes FROM card_documents")
    assert used == stored
