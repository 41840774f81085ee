"""No bytes change under the same ETag: every route with an ETag, before and after each write that its answer may show.

A representation holds only what changes with the row's ``version``. A value from another row raises the version, too,
or is shown by ``expand`` alone, whose answers have no ETag.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest

from service.auth.suspensions import suspend_user
from service.auth.token_cache import forget_tokens
from service.callers import Caller
from service.characters.queries import update_character
from service.characters.schemas import CharacterUpdate
from service.characters.tables import Character
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.relationships.queries import create_relationship
from service.relationships.schemas import RelationshipCreate
from service.users.tables import User
from tests.conftest import FIGHTER, PASSWORD, account_id, character, create, public, relationship, template
from tests.support.pictures import draw_picture, give_portrait
from tests.support.routes import routes_with

Client = httpx.AsyncClient
PNG = {"Content-Type": "image/png"}


class World(NamedTuple):
    """Things of Alice's that show each other, and forks that Charlie made of two of them."""

    alice: Client
    charlie: Client
    ids: dict[str, str]

    async def patch(self, path: str, **change: Any) -> None:
        await done(self.alice.patch(path.format(**self.ids), json=change))

    async def post(self, path: str, **body: Any) -> None:
        await done(self.alice.post(path.format(**self.ids), json=body))

    async def put(self, path: str, **given: Any) -> None:
        await done(self.alice.put(path.format(**self.ids), **given))

    async def delete(self, path: str) -> None:
        await done(self.alice.delete(path.format(**self.ids)))


async def done(answer: Awaitable[httpx.Response]) -> None:
    response = await answer
    assert response.is_success, response.text


async def purge_original(world: World) -> None:
    await world.delete("/v1/characters/{original}")
    await world.delete("/v1/trash/{original}")


async def purge_trash(world: World) -> None:
    await world.delete("/v1/characters/{original}")
    await Character.update({Character.deleted_at: datetime.now(UTC) - timedelta(days=31)}).where(
        Character.id == world.ids["original"]
    )
    await purge_everything()


async def purge_account(world: World) -> None:
    await suspend_user(await account_id("alice"))
    await User.update({User.deleted_at: datetime.now(UTC) - timedelta(days=31)}).where(User.username == "alice")
    await purge_everything()
    forget_tokens()


async def change_version(world: World, what: str) -> None:
    """Makes version 2 of the template and does ``what`` to it."""
    await world.post("/v1/templates/{template_id}/versions", attribute_schema=FIGHTER, prompt="{name}")
    await world.put("/v1/templates/{template_id}/versions/2/publication")
    if what == "deprecate":
        await world.put("/v1/templates/{template_id}/versions/2/deprecation")


# The addresses with an ETag, by the route that they are of. Alice reads them all, and Charlie what he may see.
READS = {
    "character": ("GET /v1/characters/{character_id}", "/v1/characters/{character_id}"),
    "migrated character": ("GET /v1/characters/{character_id}", "/v1/characters/{pinned}"),
    "fork": ("GET /v1/characters/{character_id}", "/v1/characters/{fork}"),
    "card": ("GET /v1/characters/{character_id}/card", "/v1/characters/{character_id}/card"),
    "portrait": ("GET /v1/characters/{character_id}/portrait", "/v1/characters/{character_id}/portrait"),
    "relationship": ("GET /v1/relationships/{relationship_id}", "/v1/relationships/{relationship_id}"),
    "relationship from target": (
        "GET /v1/relationships/{relationship_id}", "/v1/relationships/{relationship_id}?from={target}"
    ),
    "template": ("GET /v1/templates/{template_id}", "/v1/templates/{template_id}"),
    "template version": (
        "GET /v1/templates/{template_id}/versions/{number}", "/v1/templates/{template_id}/versions/1"
    ),
    "draft": ("GET /v1/templates/{template_id}/versions/{number}", "/v1/templates/{drafted}/versions/2"),
    "deprecated version": (
        "GET /v1/templates/{template_id}/versions/{number}", "/v1/templates/{migrated}/versions/1"
    ),
    "schema": (
        "GET /v1/templates/{template_id}/versions/{number}/schema", "/v1/templates/{template_id}/versions/1/schema"
    ),
    "schema of a draft": (
        "GET /v1/templates/{template_id}/versions/{number}/schema", "/v1/templates/{drafted}/versions/2/schema"
    ),
    "template fork": ("GET /v1/templates/{template_id}", "/v1/templates/{template_fork}"),
    "me": ("GET /v1/users/me", "/v1/users/me"),
    "avatar": ("GET /v1/users/{username}/avatar", "/v1/users/alice/avatar"),
}  # fmt: skip
ANSWERS_OF_ALICE_ALONE = {"me"}

# A write, and the addresses that show something else afterwards.
WRITES: dict[str, tuple[Callable[[World], Awaitable[None]], set[str]]] = {
    "rename the source of a relationship": (
        lambda world: world.patch("/v1/characters/{character_id}", name="Renamed"),
        {"character", "card", "relationship", "relationship from target"},
    ),
    "rename the target of a relationship": (
        lambda world: world.patch("/v1/characters/{target}", name="Renamed"),
        {"relationship", "relationship from target"},
    ),
    "change an end but its name": (lambda world: world.patch("/v1/characters/{target}", tags=["new"]), set()),
    "change a relationship": (
        lambda world: world.patch("/v1/relationships/{relationship_id}", attitude=5),
        {"relationship", "relationship from target"},
    ),
    "purge the original of a fork": (purge_original, {"fork"}),
    "purge the trash with the original of a fork": (purge_trash, {"fork"}),
    "purge the account with the originals of forks": (
        purge_account,
        {*READS},
    ),
    "draft a version": (
        lambda world: world.post("/v1/templates/{template_id}/versions", attribute_schema=FIGHTER),
        set(),
    ),
    "publish a version": (lambda world: change_version(world, "publish"), {"template"}),
    "deprecate the newest version": (lambda world: change_version(world, "deprecate"), {"template"}),
    "publish a draft": (lambda world: world.put("/v1/templates/{drafted}/versions/2/publication"), {"draft"}),
    "deprecate a version": (
        lambda world: world.put("/v1/templates/{migrated}/versions/1/deprecation"),
        {"deprecated version"},
    ),
    "rename a template": (lambda world: world.patch("/v1/templates/{template_id}", name="Renamed"), {"template"}),
    "retire a template": (lambda world: world.delete("/v1/templates/{template_id}"), {"template"}),
    "rename the owner": (lambda world: world.patch("/v1/users/me", display_name="Alice II"), {"me"}),
    "change the owner's e-mail address": (
        lambda world: world.patch("/v1/users/me", email="a@example.org", current_password=PASSWORD),
        {"me"},
    ),
    "change the owner's picture": (
        lambda world: world.put("/v1/users/me/avatar", content=draw_picture(), headers=PNG),
        {"me", "avatar"},
    ),
    "delete the owner's picture": (lambda world: world.delete("/v1/users/me/avatar"), {"me", "avatar"}),
    "delete the portrait": (
        lambda world: world.delete("/v1/characters/{character_id}/portrait"),
        {"character", "portrait", "card"},
    ),
    "replace the portrait": (
        lambda world: world.put("/v1/characters/{character_id}/portrait", content=draw_picture(), headers=PNG),
        {"character", "portrait", "card"},
    ),
    "edit the card": (
        lambda world: world.put("/v1/characters/{character_id}/card", json={"nickname": "Mi"}),
        {"character", "card"},
    ),
    "restore a revision": (
        lambda world: world.post("/v1/characters/{character_id}/revisions/1/restorations"),
        {"character", "card"},
    ),
    "migrate to a version": (
        lambda world: world.post("/v1/templates/{migrated}/versions/2/migration"),
        {"migrated character"},
    ),
}


@pytest.fixture
async def world(alice: Client, charlie: Client) -> World:
    rules = await template(alice, visibility="public", prompt="In oil")
    migrated = await template(alice)
    await create(alice, f"/v1/templates/{migrated['id']}/versions", attribute_schema=FIGHTER)
    await done(alice.put(f"/v1/templates/{migrated['id']}/versions/2/publication"))
    pinned = await character(alice, template=migrated["id"], template_version=1)
    drafted = await template(alice)
    await create(alice, f"/v1/templates/{drafted['id']}/versions", attribute_schema=FIGHTER)
    mira, otto, original = await public(alice), await public(alice, "Otto"), await public(alice, "Original")
    await done(alice.patch(f"/v1/characters/{mira['id']}", json={"description": "Tall"}))
    await User.update({User.avatar: await give_portrait(mira)}).where(User.username == "alice")
    fork = await create(charlie, f"/v1/characters/{original['id']}/copies")
    template_fork = await create(charlie, f"/v1/templates/{rules['id']}/copies")
    ids = {
        "character_id": mira["id"], "target": otto["id"], "original": original["id"], "fork": fork["id"],
        "relationship_id": (await relationship(alice, mira, otto))["id"], "template_id": rules["id"],
        "template_fork": template_fork["id"], "migrated": migrated["id"], "pinned": pinned["id"],
        "drafted": drafted["id"],
    }  # fmt: skip
    return World(alice, charlie, ids)


async def read(world: World) -> dict[str, tuple[str, bytes]]:
    """The ETag and the bytes of each address; two empty ones where nothing is there."""
    found = {}
    for name, (_, path) in READS.items():
        for reader in (world.alice, world.charlie):
            answer = await reader.get(path.format(**world.ids))
            if answer.status_code == 200 and (reader is world.alice or name not in ANSWERS_OF_ALICE_ALONE):
                assert "etag" in answer.headers, name
                previous = found.setdefault(name, (answer.headers["etag"], answer.content))
                assert previous == (answer.headers["etag"], answer.content), f"{name}: two readers, one ETag"
    return {name: found.get(name, ("", b"")) for name in READS}


@pytest.mark.parametrize("write", WRITES)
async def test_no_bytes_change_under_the_same_etag(world: World, write: str) -> None:
    change, expected = WRITES[write]
    before = await read(world)
    assert all(etag for etag, _ in before.values())
    await change(world)
    after = await read(world)
    same_etag = {name for name in READS if before[name][0] == after[name][0]}
    assert {name for name in same_etag if before[name][1] != after[name][1]} == set()
    assert READS.keys() - same_etag == expected


def test_every_route_with_an_etag_is_here() -> None:
    own = {"GET /v1/users/me/avatar"}  # the same picture
    assert {route for route, _ in READS.values()} | own == routes_with("etag"), "add its address to READS"


async def test_a_fork_without_its_original_has_a_revision_that_says_so(world: World) -> None:
    seen = (await world.charlie.get("/v1/changes", params={"limit": 100})).json()["next_cursor"]
    await purge_original(world)
    path = f"/v1/characters/{world.ids['fork']}"
    fork = (await world.charlie.get(path)).json()
    assert (fork["version"], fork["forked_from"]) == (2, None)
    revisions = (await world.charlie.get(f"{path}/revisions")).json()["items"]
    assert [each["number"] for each in revisions] == [2, 1]
    assert revisions[0]["created_at"] == fork["updated_at"]
    assert (await world.charlie.get(f"{path}/revisions/2")).json()["character"] == fork
    following = (await world.charlie.get("/v1/changes", params={"after": seen})).json()["items"]
    (change,) = [item for item in following if item["id"] == fork["id"]]
    assert change["character"] == fork
    assert (await world.charlie.patch(path, json={"name": "Mine"})).json()["version"] == 3


async def rename(member: Client, of: Any, name: str) -> None:
    await done(member.patch(f"/v1/characters/{of['id']}", json={"name": name}))


async def test_a_rename_meanwhile_raises_the_version_of_a_new_relationship(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    owner = Caller(id=UUID(mira["owner"]["id"]), kind="session")
    wanted = RelationshipCreate(target=UUID(otto["id"]), type="friend_of")
    outside = copy_context()
    async with DB.transaction():
        made = await create_relationship(owner, UUID(mira["id"]), wanted)
        renaming = asyncio.create_task(rename(alice, otto, "Odo"), context=outside)
        await asyncio.sleep(0.2)
        assert not renaming.done(), "it waits for the relationship, or else would not find it"
    await renaming
    read = (await alice.get(f"/v1/relationships/{made['id']}")).json()
    assert {read["source"]["name"], read["target"]["name"]} == {"Mira", "Odo"}
    assert read["version"] == 2


async def test_a_new_relationship_shows_a_name_that_changes_meanwhile(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    owner = Caller(id=UUID(mira["owner"]["id"]), kind="session")
    outside = copy_context()
    async with DB.transaction():
        await update_character(owner, UUID(otto["id"]), CharacterUpdate(name="Odo"), None)
        creation = asyncio.create_task(relationship(alice, mira, otto), context=outside)
        await asyncio.sleep(0.2)
        assert not creation.done()
    made = await creation
    assert made["target"]["name"] == "Odo"
    assert (await alice.get(f"/v1/relationships/{made['id']}?from={mira['id']}")).json() == made
