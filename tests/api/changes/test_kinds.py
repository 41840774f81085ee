"""Templates and relationships in the feed of changes. The ledger in tests/slow follows them in a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.callers import Caller
from service.changes.queries import Feed, _page
from service.commands.purge import purge_everything
from service.database.engine import DB
from tests.conftest import character, faults, relationship, template, with_key
from tests.support.feed import Reader

Client = httpx.AsyncClient

ALL = "character,template,relationship"
OTHERS = "template,relationship"


async def changes(reader: Reader) -> list[tuple[str, int, bool]]:
    return [(item["kind"], item["version"], item["deleted"]) for item in await reader.read()]


@pytest.fixture
async def pair(alice: Client) -> tuple[Any, Any]:
    return await character(alice, name="Mira"), await character(alice, name="Otto")


async def test_each_kind_is_listed_as_it_is_read(alice: Client, pair: tuple[Any, Any]) -> None:
    mira, otto = pair
    fighter = await template(alice)
    made = await relationship(alice, otto, mira, type="mentor_of")
    for kinds in (ALL, "character,relationship", "template", ["relationship", "template"]):
        for limit in (1, 100):
            names = kinds.split(",") if isinstance(kinds, str) else kinds
            by_id = {item["id"]: item for item in await Reader(alice, kinds, limit).read()}
            expected = {
                "character": [("characters", mira), ("characters", otto)],
                "template": [("templates", fighter)],
                "relationship": [("relationships", made)],
            }
            assert len(by_id) == sum(len(expected[name]) for name in names)
            for name in names:
                for path, row in expected[name]:
                    shown = (await alice.get(f"/v1/{path}/{row['id']}")).json()
                    item = {"id": row["id"], "version": 1, "kind": name, "deleted": False, name: shown}
                    assert by_id[row["id"]] == item
    assert {item["kind"] for item in (await alice.get("/v1/changes")).json()["items"]} == {"character"}


async def test_every_change_of_a_template_is_listed(alice: Client) -> None:
    reader = Reader(alice, "template")
    made = await template(alice)
    path = f"/v1/templates/{made['id']}"
    assert await changes(reader) == [("template", 1, False)]
    steps: list[tuple[Callable[[], Awaitable[httpx.Response]], bool]] = [
        (lambda: alice.patch(path, json={"name": "Renamed"}), True),
        (lambda: alice.post(f"{path}/versions", json={"attribute_schema": {"type": "object"}}), False),  # a draft
        (lambda: alice.put(f"{path}/versions/2/publication"), True),
    ]
    for step, is_change in steps:
        answer = await step()
        assert answer.is_success, answer.text
        items = await reader.read()
        assert [item["template"] for item in items] == [(await alice.get(path)).json()] * is_change
    assert (await alice.delete(path)).status_code == 204
    [item] = await reader.read()
    assert (item["deleted"], item["template"]["retired_at"] is None) == (False, False)


async def test_every_change_of_a_relationship_is_listed(alice: Client, pair: tuple[Any, Any]) -> None:
    mira, otto = pair
    reader = Reader(alice, OTHERS)
    made = await relationship(alice, mira, otto)
    path, change = f"/v1/relationships/{made['id']}", "relationship"
    assert await changes(reader) == [(change, 1, False)]
    await alice.patch(path, json={"description": "Close"})
    assert await changes(reader) == [(change, 2, False)]
    await alice.patch(f"/v1/characters/{otto['id']}", json={"name": "Otto the Old"})
    [renamed] = await reader.read()
    assert (renamed["version"], renamed["relationship"]) == (3, (await alice.get(path)).json())
    await alice.delete(f"/v1/characters/{otto['id']}")
    assert await changes(reader) == [(change, 4, True)], "hidden with a character in the trash"
    await alice.post(f"/v1/trash/{otto['id']}/restorations")
    assert await changes(reader) == [(change, 5, False)]
    operations = {"operations": [{"action": "delete", "id": mira["id"]}]}
    assert (await alice.post("/v1/characters/bulk", json=operations)).status_code == 200
    assert await changes(reader) == [(change, 6, True)]
    await alice.delete(f"/v1/trash/{mira['id']}")
    assert await changes(reader) == [(change, 7, True)], "purged with the character"
    again = await relationship(alice, otto, await character(alice))
    assert (await alice.delete(f"/v1/relationships/{again['id']}")).status_code == 204
    assert await changes(reader) == [(change, 2, True)]


async def test_nothing_of_others_is_listed(app: Any, alice: Client, charlie: Client, pair: tuple[Any, Any]) -> None:
    await template(alice, visibility="public")
    await relationship(alice, *pair)
    assert await Reader(charlie, ALL).read() == []


async def test_deletions_are_forgotten_after_thirty_days_and_with_the_account(
    alice: Client, pair: tuple[Any, Any]
) -> None:
    kept, gone = await template(alice), await relationship(alice, *pair)
    await alice.delete(f"/v1/relationships/{gone['id']}")
    assert (await purge_everything())["deletions in the feed"] == 0
    days = datetime.now(UTC) - timedelta(days=31)
    await DB._run_in_new_connection("UPDATE changed_rows SET deleted_at = $1 WHERE id = $2", [days, gone["id"]])
    assert (await purge_everything())["deletions in the feed"] == 1
    assert [item["id"] for item in await Reader(alice, OTHERS).read()] == [kept["id"]]
    for table in ("template_versions", "templates", "characters"):
        await DB._run_in_new_connection(f"DELETE FROM {table}")
    [left] = await DB._run_in_new_connection(
        "SELECT owner, kind, version FROM changed_rows WHERE deleted_at > $1", [days]
    )
    assert (left["kind"], left["version"]) == ("template", 2)
    await DB._run_in_new_connection("DELETE FROM users WHERE id = $1", [left["owner"]])
    assert await DB._run_in_new_connection("SELECT FROM changed_rows") == []


async def test_templates_need_their_scope(app: Any, alice: Client) -> None:
    async with await with_key(app, alice, "characters:read") as program:
        assert (await program.get("/v1/changes?kind=character,relationship")).status_code == 200
        refused = await program.get("/v1/changes?kind=template")
        assert (refused.status_code, refused.json()["detail"]) == (403, "This API key lacks the scope templates:read.")
    async with await with_key(app, alice, "characters:read", "templates:read") as program:
        assert (await program.get("/v1/changes?kind=template")).status_code == 200


@pytest.mark.parametrize("kind", ["", "user", "character,,template", "character,template,relationship,template"])
async def test_unknown_kinds_are_refused(alice: Client, kind: str) -> None:
    answer = await alice.get("/v1/changes", params={"kind": kind})
    assert (answer.status_code, list(faults(answer))) == (400, ["kind"])


async def test_a_cursor_is_for_its_kinds(alice: Client) -> None:
    after = (await alice.get("/v1/changes")).json()["next_cursor"]
    for kinds, status in (("character", 200), (ALL, 400), ("template", 400)):
        answer = await alice.get("/v1/changes", params={"kind": kinds, "after": after})
        assert answer.status_code == status, kinds


async def test_writers_at_once_lose_nothing(app: Any, alice: Client) -> None:
    """Renames, deletions and restorations of both ends, while a reader follows."""
    cast = [await character(alice, name=f"{number}") for number in range(4)]
    made = [await relationship(alice, cast[a], cast[b]) for a in range(4) for b in range(a)]
    reader = Reader(alice, OTHERS, limit=3)

    async def write(number: int) -> None:
        path = f"/v1/characters/{cast[number]['id']}"
        for turn in range(6):
            for answer in (
                await alice.patch(path, json={"name": f"{number} {turn}"}),
                await alice.delete(path),
                await alice.post(f"/v1/trash/{cast[number]['id']}/restorations"),
            ):
                assert answer.is_success, answer.text

    writing = [asyncio.create_task(write(number)) for number in range(4)]
    while not all(task.done() for task in writing):
        await reader.read()
    await asyncio.gather(*writing)
    await reader.read()
    for row in made:
        assert reader.copy[row["id"]] == (await alice.get(f"/v1/relationships/{row['id']}")).json()


async def test_pages_of_other_kinds_are_read_from_their_index(alice: Client, app: Any) -> None:
    me = (await alice.get("/v1/users/me")).json()["id"]
    await DB.run_ddl(
        "INSERT INTO changed_rows (id, owner, kind, version, written_in)"
        f" SELECT gen_random_uuid(), '{me}', kind, 1, number FROM generate_series(1, 3000) AS number,"
        " (VALUES ('template'), ('relationship')) AS kinds (kind)"
    )
    await DB.run_ddl("ANALYZE changed_rows")
    sql, arguments = _page(("character", "template", "relationship"))._bind(
        {"user": UUID(me), "written_in": 0, "id": UUID(int=0), "limit": 20, "most": 2**22, "side": None}
    )
    rows = await DB._run_in_new_connection(f"EXPLAIN (ANALYZE, FORMAT TEXT) {sql}", arguments)
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert plan.count("changed_rows_in_order") == 2
    assert "Seq Scan on changed_rows" not in plan
    assert "rows=3000" not in plan


async def test_only_changes_of_its_kinds_are_waited_for(alice: Client) -> None:
    await template(alice)
    await character(alice)
    feed = await Feed.after(Caller(id=UUID((await alice.get("/v1/users/me")).json()["id"])), ("template",), None)
    assert len(await feed.read(10)) == 1
    assert not await feed.is_delayed()
    async with DB.transaction():
        await DB._run_in_pool("UPDATE templates SET version = version + 1 WHERE owner IS NOT NULL")
        assert await feed.is_delayed()
