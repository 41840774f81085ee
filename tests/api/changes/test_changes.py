"""The feed of changes: nothing is skipped, whoever writes meanwhile."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.changes.queries import _page
from service.characters.tables import Character
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.lists.cursors import decode_cursor, encode_cursor
from tests.conftest import character, faults, public, relationship, signed_in, with_key
from tests.support.feed import Reader

Client = httpx.AsyncClient


async def everything_of(member: Client) -> dict[str, Any]:
    """The member's living characters, read one by one."""
    rows = await Character.select(Character.id).where(Character.deleted_at.is_null())
    answers = [await member.get(f"/v1/characters/{row['id']}") for row in rows]
    return {answer.json()["id"]: answer.json() for answer in answers}


async def test_the_feed_starts_with_all_characters_and_continues_with_changes(alice: Client) -> None:
    first, second = await character(alice, name="Mira"), await character(alice, name="Otto")
    reader = Reader(alice, limit=1)
    assert await reader.read() == [
        {"id": first["id"], "version": 1, "kind": "character", "deleted": False, "character": first},
        {"id": second["id"], "version": 1, "kind": "character", "deleted": False, "character": second},
    ]
    assert await reader.read() == []
    changed = (await alice.patch(f"/v1/characters/{first['id']}", json={"name": "Mira Halloran"})).json()
    assert await reader.read() == [
        {"id": first["id"], "version": 2, "kind": "character", "deleted": False, "character": changed}
    ]


async def test_an_empty_feed_has_a_cursor_too(alice: Client) -> None:
    reader = Reader(alice)
    assert await reader.read() == []
    made = await character(alice)
    assert [item["id"] for item in await reader.read()] == [made["id"]]


async def test_deletions_restorations_and_purges_are_in_the_feed(alice: Client) -> None:
    made = await character(alice)
    reader = Reader(alice)
    await reader.read()
    await alice.delete(f"/v1/characters/{made['id']}")
    assert await reader.read() == [{"id": made["id"], "version": 2, "kind": "character", "deleted": True}]
    await alice.post(f"/v1/trash/{made['id']}/restorations")
    (restored,) = await reader.read()
    assert (restored["version"], restored["deleted"]) == (3, False)
    assert restored["character"] == (await alice.get(f"/v1/characters/{made['id']}")).json()
    await alice.delete(f"/v1/characters/{made['id']}")
    assert (await alice.delete(f"/v1/trash/{made['id']}")).status_code == 204
    assert await reader.read() == [{"id": made["id"], "version": 5, "kind": "character", "deleted": True}]


async def test_a_purged_character_leaves_only_its_row_in_the_feed(alice: Client) -> None:
    made, other = await character(alice, name="Mira", attributes={"secret": 1}), await character(alice)
    copy = (await alice.post(f"/v1/characters/{made['id']}/copies", json={})).json()
    await relationship(alice, made, other)
    await alice.delete(f"/v1/characters/{made['id']}")
    await alice.delete(f"/v1/trash/{made['id']}")
    assert (await alice.get(f"/v1/characters/{copy['id']}")).json()["forked_from"] is None
    assert (await alice.get("/v1/trash")).json()["items"] == []
    assert (await alice.post(f"/v1/trash/{made['id']}/restorations")).status_code == 404
    assert (await alice.delete(f"/v1/trash/{made['id']}")).status_code == 404
    assert (await alice.get(f"/v1/characters/{made['id']}")).status_code == 404
    (left,) = await DB._run_in_new_connection("SELECT * FROM characters WHERE ended")
    assert (left["name"], left["attributes"], left["tags"]) == ("", "{}", [])
    assert await DB._run_in_new_connection("SELECT FROM revisions WHERE character = $1", [left["id"]]) == []
    assert await DB._run_in_new_connection("SELECT FROM relationships") == []
    await Character.update({Character.deleted_at: datetime.now(UTC) - timedelta(days=31)}).where(
        Character.id == left["id"]
    )
    assert (await purge_everything())["trash"] == 1


async def test_the_feed_contains_only_the_callers_characters(
    app: Any, alice: Client, charlie: Client, stranger: Client
) -> None:
    await public(alice)
    alices, charlies = Reader(alice), Reader(charlie)
    assert len(await alices.read()) == 1
    assert await charlies.read() == []
    refused = await charlie.get("/v1/changes", params={"after": alices.parameters["after"]})
    assert refused.status_code == 400
    assert (await stranger.get("/v1/changes")).status_code == 401
    program = await with_key(app, alice, "characters:read")
    other = await with_key(app, alice, "characters:write", "templates:read")
    assert len((await program.get("/v1/changes")).json()["items"]) == 1
    assert (await other.get("/v1/changes")).status_code == 403


async def test_a_transaction_that_commits_late_is_not_skipped(alice: Client) -> None:
    early, late = await character(alice, name="Early"), await character(alice, name="Late")
    reader = Reader(alice)
    await reader.read()
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def write_slowly() -> None:
        async with DB.transaction():
            await Character.update({Character.name: "At last", Character.version: 2}).where(
                Character.id == UUID(late["id"])
            )
            begun.set()
            await may_end.wait()

    slow = asyncio.create_task(write_slowly())
    await begun.wait()
    try:
        changed = await alice.patch(f"/v1/characters/{early['id']}", json={"name": "First"})
        assert changed.status_code == 200
        assert await reader.read() == []  # what is done waits for what began before it
    finally:
        may_end.set()
        await slow
    assert [(item["id"], item["version"]) for item in await reader.read()] == [(late["id"], 2), (early["id"], 2)]


async def test_rows_of_one_transaction_are_not_skipped_between_pages(alice: Client) -> None:
    made = [await character(alice, name=f"{number}") for number in range(7)]
    reader = Reader(alice, limit=2)
    await reader.read()
    await Character.update({Character.version: 2}, force=True)
    assert sorted(item["id"] for item in await reader.read()) == sorted(each["id"] for each in made)


async def test_fifty_writers_and_a_reader(app: Any, alice: Client) -> None:
    shared = [await character(alice, name=f"Shared {number}") for number in range(12)]
    luck = random.Random(1)
    reader, slow_reader = Reader(alice), Reader(alice, limit=7)
    writing = True

    async def write(number: int) -> None:
        own = await character(alice, name=f"Own {number}")
        for turn in range(8):
            target = luck.choice([own, luck.choice(shared)])["id"]
            async with DB.transaction():  # which the request joins, so commits come late and in any order
                match luck.randrange(6):
                    case 0:
                        answer = await alice.delete(f"/v1/characters/{target}")
                    case 1:
                        answer = await alice.post(f"/v1/trash/{target}/restorations")
                    case 2:
                        answer = await alice.delete(f"/v1/trash/{target}")
                    case _:
                        answer = await alice.patch(f"/v1/characters/{target}", json={"name": f"{number} {turn}"})
                await asyncio.sleep(luck.random() / 50)
            assert answer.status_code in (200, 201, 204, 404)

    async def follow(reader: Reader, pause: float) -> int:
        pages = 0
        while writing:
            await reader.read_page()
            await asyncio.sleep(pause)
            pages += 1
        await reader.read()
        return pages

    following = [asyncio.create_task(follow(reader, 0)), asyncio.create_task(follow(slow_reader, 0.02))]
    await asyncio.gather(*(write(number) for number in range(50)))
    writing = False
    assert min(await asyncio.gather(*following)) > 3
    there = await everything_of(alice)
    assert len(there) > 10
    assert reader.copy == slow_reader.copy == there


@pytest.mark.parametrize("after", ["x", "", "AAAA", "é"])
async def test_an_invalid_cursor_is_refused(alice: Client, after: str) -> None:
    refused = await alice.get("/v1/changes", params={"after": after})
    assert (refused.status_code, list(faults(refused))) == (400, ["after"])


async def test_a_cursor_of_another_list_is_refused(alice: Client) -> None:
    for _ in range(2):
        await character(alice)
    lists = (await alice.get("/v1/characters", params={"limit": 1})).json()["next_cursor"]
    assert (await alice.get("/v1/changes", params={"after": lists})).status_code == 400


async def name_of_feed(member: Client) -> str:
    """The shape that the user's cursors are signed with."""
    me = (await member.get("/v1/users/me")).json()["id"]
    (row,) = await DB._run_in_new_connection(
        "SELECT system_identifier || '/' || 'characters'::regclass::oid AS history FROM pg_control_system()"
    )
    return f"changes {me} {row['history']}"


async def test_a_cursor_that_is_too_old_is_refused(alice: Client) -> None:
    feed = await name_of_feed(alice)
    for days, status in ((28, 200), (30, 400)):
        place = [0, UUID(int=0), datetime.now(UTC) - timedelta(days=days)]
        after = encode_cursor(place, feed)
        answer = await alice.get("/v1/changes", params={"after": after})
        assert answer.status_code == status
    assert "start again" in faults(answer)["after"]
    other = encode_cursor(place, f"{feed} of another server")
    assert (await alice.get("/v1/changes", params={"after": other})).status_code == 400


async def test_only_the_last_page_renews_a_cursor(alice: Client) -> None:
    feed = await name_of_feed(alice)
    for _ in range(2):
        await character(alice)
    last_week = datetime.now(UTC) - timedelta(days=7)
    after = encode_cursor([0, UUID(int=0), last_week], feed)
    for limit, is_renewed in ((1, False), (100, True)):
        page = (await alice.get("/v1/changes", params={"after": after, "limit": limit})).json()
        complete_at = decode_cursor(page["next_cursor"], feed, (int, UUID, datetime))[2]
        assert (complete_at > last_week) is is_renewed


async def test_a_page_is_read_from_its_index(alice: Client, app: Any) -> None:
    """And only as far as it goes, however much lies behind."""
    await signed_in(app, "dora")
    me = (await alice.get("/v1/users/me")).json()["id"]
    await DB.run_ddl(
        "INSERT INTO characters (id, owner, name, tags) SELECT gen_random_uuid(), u.id, 'x', '{}'"
        f" FROM users u, generate_series(1, 2500) WHERE u.id = '{me}' OR u.username = 'dora'"
    )
    await DB.run_ddl("ANALYZE characters")
    sql, arguments = _page(("character",))._bind(
        {"user": UUID(me), "written_in": 0, "id": UUID(int=0), "limit": 20, "most": 2**22}
    )
    rows = await DB._run_in_new_connection(f"EXPLAIN (ANALYZE, FORMAT TEXT) {sql}", arguments)
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert "characters_changed" in plan
    assert "Sort" not in plan


async def test_a_last_event_id_that_is_too_long_is_refused(alice: Client) -> None:
    answer = await alice.get("/v1/changes", headers={"Last-Event-ID": "A" * 2001})
    assert (answer.status_code, faults(answer)) == (400, {"Last-Event-ID": "Must be at most 2,000 characters."})
