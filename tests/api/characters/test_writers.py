"""Writers at the same time: one wins, and nobody's work is lost without being told."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from service.audit.tables import AuditEntry
from service.database.engine import DB
from service.relationships.tables import Relationship
from tests.conftest import FIGHTER, character, create, template
from tests.support.locks import until_waiting

Client = httpx.AsyncClient

MANY = 50


async def _statuses(*requests: Awaitable[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in await asyncio.gather(*requests))


async def _history(member: Client, path: str) -> list[int]:
    """The numbers of all revisions, the last first."""
    page = await member.get(f"{path}/revisions?limit=100")
    return [revision["number"] for revision in page.json()["items"]]


def _if_match(mira: Any) -> dict[str, str]:
    return {"If-Match": f'"{mira["id"]}-{mira["version"]}"'}


@pytest.mark.parametrize("writers", [2, MANY])
async def test_with_if_match_one_of_each_generation_wins(alice: Client, writers: int) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    for generation in range(1, 4):
        answers = await asyncio.gather(
            *(
                alice.patch(path, json={"name": f"{generation}-{writer}"}, headers=_if_match(mira))
                for writer in range(writers)
            )
        )
        assert Counter(answer.status_code for answer in answers) == {200: 1, 412: writers - 1}
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        mira = (await alice.get(path)).json()
        assert mira == won
        assert mira["version"] == generation + 1


@pytest.mark.parametrize("writers", [2, MANY])
async def test_without_if_match_no_merge_is_lost(alice: Client, writers: int) -> None:
    mira = await character(alice, attributes={"first": True})
    path = f"/v1/characters/{mira['id']}"
    merges = [alice.patch(path, json={"attributes": {f"a{writer}": writer}}) for writer in range(writers)]
    answers = await asyncio.gather(*merges)
    assert {answer.status_code for answer in answers} == {200}
    merged = (await alice.get(path)).json()
    assert merged["attributes"] == {"first": True} | {f"a{writer}": writer for writer in range(writers)}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, writers + 2))
    assert await _history(alice, path) == list(range(writers + 1, 0, -1))


async def test_without_if_match_the_last_wins(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    answers = await asyncio.gather(*(alice.patch(path, json={"name": f"Mira {n}"}) for n in range(MANY)))
    last = max((answer.json() for answer in answers), key=lambda answer: int(answer["version"]))
    assert (await alice.get(path)).json() == last


async def test_every_refused_writer_succeeds_after_retrying(alice: Client) -> None:
    mira = await character(alice, attributes={"count": 0})
    path = f"/v1/characters/{mira['id']}"

    async def add_one() -> None:
        while True:
            read = (await alice.get(path)).json()
            change = {"attributes": {"count": read["attributes"]["count"] + 1}}
            answer = await alice.patch(path, json=change, headers=_if_match(read))
            if answer.status_code == 200:
                return
            assert answer.status_code == 412

    await asyncio.gather(*(add_one() for _ in range(10)))
    assert (await alice.get(path)).json()["attributes"] == {"count": 10}


@pytest.mark.parametrize(("if_match", "status", "history"), [(False, 200, [3, 2, 1]), (True, 412, [2, 1])])
async def test_a_change_between_reading_and_writing_is_seen(
    alice: Client, if_match: bool, status: int, history: list[int]
) -> None:
    mira = await character(alice, attributes={"a": 1, "b": 1})
    path = f"/v1/characters/{mira['id']}"
    connection = await DB.get_new_connection()
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM characters WHERE id = $1 FOR UPDATE", mira["id"])
            first = asyncio.create_task(alice.patch(path, json={"attributes": {"a": 2}}))
            await until_waiting(first)  # it has read, and cannot write yet
            headers = _if_match(mira) if if_match else {}
            second = asyncio.create_task(alice.patch(path, json={"attributes": {"b": 2}}, headers=headers))
            await until_waiting(first, second)
    finally:
        await connection.close()
    assert (await first).status_code == 200
    assert (await second).status_code == status
    assert (await alice.get(path)).json()["attributes"] == {"a": 2, "b": 1 if if_match else 2}
    assert await _history(alice, path) == history


async def test_a_visibility_that_others_overtake_is_recorded_once(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    connection = await DB.get_new_connection()
    try:
        async with connection.transaction():
            await connection.execute("UPDATE characters SET version = 2 WHERE id = $1", mira["id"])
            change = asyncio.create_task(alice.patch(path, json={"visibility": "public"}))
            await until_waiting(change)
    finally:
        await connection.close()
    assert (await change).json()["version"] == 3
    assert await AuditEntry.count().where(AuditEntry.row == mira["id"]) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("friend_of", "friend_of"), ("parent_of", "child_of"), ("mentor_of", "mentor_of"), ("custom", "custom")],
)
async def test_a_relationship_created_from_both_sides_is_one_row(alice: Client, one: str, other: str) -> None:
    label = {"label": "haunted by", "inverse_label": "haunts"} if one == "custom" else {}
    swapped = {"label": "haunts", "inverse_label": "haunted by"} if one == "custom" else {}
    for _ in range(20):
        mira, otto = await character(alice), await character(alice, name="Otto")
        paths = [f"/v1/characters/{end['id']}/relationships" for end in (mira, otto)]
        statuses = await _statuses(
            alice.post(paths[0], json={"target": otto["id"], "type": one, **label}),
            alice.post(paths[1], json={"target": mira["id"], "type": other, **swapped}),
        )
        assert statuses == {201: 1, 409: 1}
        (seen,) = (await alice.get(paths[0])).json()["items"]
        (seen_back,) = (await alice.get(paths[1])).json()["items"]
        assert seen["id"] == seen_back["id"]
        assert (seen["source"], seen["target"]) == (seen_back["target"], seen_back["source"])
        assert await Relationship.count().where(Relationship.id == seen["id"]) == 1
    assert await Relationship.count() == 20


async def test_concurrent_identical_relationships_are_one_row(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    ways = [(mira, otto, "parent_of"), (otto, mira, "child_of")]
    statuses = await _statuses(
        *(
            alice.post(f"/v1/characters/{source['id']}/relationships", json={"target": target["id"], "type": name})
            for source, target, name in ways * (MANY // 2)
        )
    )
    assert statuses == {201: 1, 409: MANY - 1}
    assert await Relationship.count() == 1


async def test_concurrent_changes_of_both_attitudes_are_kept(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    made = await create(alice, f"/v1/characters/{mira['id']}/relationships", target=otto["id"], type="rival_of")
    path = f"/v1/relationships/{made['id']}"
    for attitude in range(1, 11):
        statuses = await _statuses(
            alice.patch(path, json={"attitude": attitude}, params={"from": mira["id"]}),
            alice.patch(path, json={"attitude": -attitude}, params={"from": otto["id"]}),
        )
        assert statuses == {200: 2}
        read = (await alice.get(path, params={"from": mira["id"]})).json()
        assert (read["attitude"], read["returned_attitude"]) == (attitude, -attitude)
        assert read["version"] == 1 + 2 * attitude


async def test_concurrent_drafts_and_publications_of_versions(alice: Client) -> None:
    rules = await template(alice)
    path = f"/v1/templates/{rules['id']}"
    drafts = await asyncio.gather(
        *(alice.post(f"{path}/versions", json={"attribute_schema": FIGHTER}) for _ in range(10))
    )
    assert sorted(draft.json()["number"] for draft in drafts) == list(range(2, 12))
    statuses = await _statuses(
        *(alice.put(f"{path}/versions/{number}/publication") for number in [*range(2, 12)] * 2),
    )
    assert statuses == {200: 20}
    assert (await alice.get(path)).json()["newest_version"] == 11
    assert (await alice.get(path)).json()["version"] == 11
    published = {version["state"] for version in (await alice.get(f"{path}/versions")).json()["items"]}
    assert published == {"published"}


async def test_concurrent_deprecations_leave_one_version(alice: Client) -> None:
    rules = await template(alice)
    path = f"/v1/templates/{rules['id']}"
    for number in range(2, 6):
        await create(alice, f"{path}/versions", attribute_schema=FIGHTER)
        await alice.put(f"{path}/versions/{number}/publication")
    statuses = await _statuses(*(alice.put(f"{path}/versions/{number}/deprecation") for number in range(1, 6)))
    assert statuses == {200: 4, 409: 1}
    versions = (await alice.get(f"{path}/versions")).json()["items"]
    (left,) = [version["number"] for version in versions if version["state"] == "published"]
    assert (await alice.get(path)).json()["newest_version"] == left


async def _delete_against(alice: Client, other: Callable[[str], Awaitable[httpx.Response]]) -> tuple[Any, int]:
    """A character that was deleted and otherwise written at once, and what the other writer was answered."""
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    deleted, answer = await asyncio.gather(alice.delete(path), other(path))
    assert deleted.status_code == 204
    assert (await alice.get(path)).status_code == 404
    return mira, answer.status_code


async def test_a_concurrent_patch_and_deletion(alice: Client) -> None:
    for _ in range(10):
        mira, status = await _delete_against(alice, lambda path: alice.patch(path, json={"name": "Late"}))
        assert status in (200, 404)
        back = await create(alice, f"/v1/trash/{mira['id']}/restorations")
        assert back["name"] == ("Late" if status == 200 else "Mira")
        assert back["version"] == (4 if status == 200 else 3)


async def test_two_concurrent_deletions(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    assert await _statuses(*(alice.delete(path) for _ in range(10))) == {204: 1, 404: 9}
    restorations = f"/v1/trash/{mira['id']}/restorations"
    assert await _statuses(*(alice.post(restorations) for _ in range(10))) == {201: 1, 404: 9}
    assert await _history(alice, path) == [3, 2, 1]


async def test_a_concurrent_restoration_and_purge(alice: Client) -> None:
    for _ in range(10):
        mira = await character(alice)
        await alice.delete(f"/v1/characters/{mira['id']}")
        ended, restored = await asyncio.gather(
            alice.delete(f"/v1/trash/{mira['id']}"), alice.post(f"/v1/trash/{mira['id']}/restorations")
        )
        assert (ended.status_code, restored.status_code) in {(204, 404), (404, 201)}
        found = await alice.get(f"/v1/characters/{mira['id']}")
        assert found.status_code == (200 if restored.status_code == 201 else 404)


@pytest.mark.parametrize("ending", ["source", "target"])
async def test_a_relationship_created_while_a_character_is_purged(alice: Client, ending: str) -> None:
    ends = {"source": await character(alice), "target": await character(alice, name="Otto")}
    path = f"/v1/characters/{ends['source']['id']}/relationships"
    body = {"target": ends["target"]["id"], "type": "mentor_of"}
    connection = await DB.get_new_connection()
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM characters WHERE id = $1", ends[ending]["id"])
            related = asyncio.create_task(alice.post(path, json=body))
            await until_waiting(related)
    finally:
        await connection.close()
    answer = await related
    assert answer.status_code == 404, answer.text
    assert await Relationship.count() == 0
