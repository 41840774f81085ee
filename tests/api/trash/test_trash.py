"""Deleted characters: hidden at once, restorable for 30 days, then purged."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.auth.tables import Token
from service.auth.token_cache import forget_tokens
from service.characters import purging
from service.characters.tables import Character, Revision
from service.commands import accounts
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.relationships.tables import Relationship
from service.templates.tables import Template, TemplateVersion
from service.trash import queries
from service.users.tables import ReservedUsername, User
from tests.conftest import PASSWORD, character, client, create, signed_in, template

Client = httpx.AsyncClient

NOTHING = {
    "trash": 0, "tokens": 0, "email tokens": 0, "messages": 0, "operators' sessions": 0, "idempotency keys": 0,
    "accounts": 0, "unverified addresses": 0, "thinned revisions": 0, "reserved usernames": 0, "audit entries": 0,
    "deletions in the feed": 0,
}  # fmt: skip


async def _related(alice: Client) -> tuple[Any, Any, Any]:
    """Mira, Otto, and what Mira is to him."""
    mira, otto = await character(alice, name="Mira"), await character(alice, name="Otto")
    path = f"/v1/characters/{mira['id']}/relationships"
    return mira, otto, await create(alice, path, target=otto["id"], type="mentor_of", attitude=40, returned_attitude=-3)


async def _names(member: Client, path: str) -> list[str]:
    return [item["name"] for item in (await member.get(path)).json()["items"]]


async def _delete(member: Client, path: str, **body: Any) -> None:
    assert (await member.request("DELETE", path, json=body or None)).status_code == 204


async def _leave(member: Client) -> None:
    await _delete(member, "/v1/users/me", password=PASSWORD)


async def _shift(table: Any, column: str, days: float, row: str) -> None:
    """Moves a time in the database into the past."""
    await table.raw(
        f"UPDATE {table._meta.tablename} SET {column} = {column} - {{}} * interval '1 day' WHERE id = {{}}::uuid",
        days,
        row,
    )


async def unlike(member: Client, before: Any) -> dict[str, Any]:
    """The members of a relationship that have changed, but for the time."""
    now = (await member.get(f"/v1/relationships/{before['id']}")).json()
    return {name: value for name, value in now.items() if value != before[name] and name != "updated_at"}


async def test_deleted_characters_leave_everything_at_once(alice: Client) -> None:
    rules = await template(alice)
    mira, otto, related = await _related(alice)
    pinned = await alice.patch(f"/v1/characters/{mira['id']}", json={"template": rules["id"]})
    assert pinned.status_code == 200
    await _delete(alice, f"/v1/characters/{mira['id']}")

    assert await _names(alice, "/v1/characters") == ["Otto"]
    assert await _names(alice, "/v1/trash") == ["Mira"]
    assert (await alice.get(f"/v1/characters/{otto['id']}/relationships")).json()["items"] == []
    graph = (await alice.get(f"/v1/characters/{otto['id']}/graph?depth=4")).json()
    assert ([node["name"] for node in graph["nodes"]], graph["edges"]) == (["Otto"], [])
    assert (await alice.get(f"/v1/templates/{rules['id']}/usage")).json() == {"characters": 0, "versions": {}}
    assert (await alice.get(f"/v1/relationships/{related['id']}")).status_code == 404
    for part in ("", "/relationships", "/graph", "/prompt", "/validation", "/revisions", "/revisions/1"):
        assert (await alice.get(f"/v1/characters/{mira['id']}{part}")).status_code == 404, part
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 404


async def test_a_restored_character_is_complete(alice: Client) -> None:
    mira, _, related = await _related(alice)
    path = f"/v1/characters/{mira['id']}"
    changed = (await alice.patch(path, json={"attributes": {"wits": 17}})).json()
    await _delete(alice, path)
    back = await alice.post(f"/v1/trash/{mira['id']}/restorations")

    assert back.status_code == 201
    assert back.headers["location"] == path
    assert back.headers["etag"] == f'"{mira["id"]}-4"'
    assert back.content == (await alice.get(path)).content
    restored = back.json()
    assert restored == changed | {"version": 4, "updated_at": restored["updated_at"]}
    assert await unlike(alice, related) == {"version": 3}
    [listed] = (await alice.get(f"{path}/relationships")).json()["items"]
    assert listed | {"version": 1, "updated_at": related["updated_at"]} == related
    assert (await alice.get(f"{path}/revisions/2")).json()["character"] == changed
    numbers = [revision["number"] for revision in (await alice.get(f"{path}/revisions")).json()["items"]]
    assert numbers == [4, 3, 2, 1]
    assert await _names(alice, "/v1/trash") == []
    assert sorted(await _names(alice, "/v1/characters")) == ["Mira", "Otto"]
    assert (await alice.post(f"/v1/trash/{mira['id']}/restorations")).status_code == 404


async def test_a_relationship_returns_when_both_characters_are_restored(alice: Client) -> None:
    mira, otto, related = await _related(alice)
    for name in (mira, otto):
        await _delete(alice, f"/v1/characters/{name['id']}")
    await create(alice, f"/v1/trash/{otto['id']}/restorations")
    assert (await alice.get(f"/v1/relationships/{related['id']}")).status_code == 404
    await create(alice, f"/v1/trash/{mira['id']}/restorations")
    assert await unlike(alice, related) == {"version": 5}, "hidden and shown again, twice"


async def test_the_trash_is_paged(alice: Client) -> None:
    ids = [(await character(alice, name=name))["id"] for name in "ABCDE"]
    for character_id in reversed(ids):
        await _delete(alice, f"/v1/characters/{character_id}")
    found, path = [], "/v1/trash?limit=2"
    while path:
        page = await alice.get(path)
        found += [item["name"] for item in page.json()["items"]]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert found == list("ABCDE")


async def test_the_trash_of_another_user_is_not_found(alice: Client, charlie: Client, stranger: Client) -> None:
    mira = await character(alice, visibility="public")
    await _delete(alice, f"/v1/characters/{mira['id']}")
    restorations = f"/v1/trash/{mira['id']}/restorations"
    assert await _names(charlie, "/v1/trash") == []
    assert (await charlie.post(restorations)).status_code == 404
    assert (await charlie.delete(f"/v1/trash/{mira['id']}")).status_code == 404
    assert (await stranger.get("/v1/trash")).status_code == 401
    assert (await alice.post(restorations)).status_code == 201


async def test_only_characters_in_the_trash_are_purged(alice: Client) -> None:
    mira = await character(alice)
    assert (await alice.delete(f"/v1/trash/{mira['id']}")).status_code == 404
    assert (await alice.get(f"/v1/characters/{mira['id']}")).status_code == 200


async def test_purging_a_character_deletes_its_revisions_and_relationships(alice: Client) -> None:
    mira, _, _ = await _related(alice)
    copy = await create(alice, f"/v1/characters/{mira['id']}/copies")
    await _delete(alice, f"/v1/characters/{mira['id']}")
    await _delete(alice, f"/v1/trash/{mira['id']}")
    assert (await alice.post(f"/v1/trash/{mira['id']}/restorations")).status_code == 404
    assert await Revision.count().where(Revision.character == mira["id"]) == 0
    assert await Relationship.count() == 0
    left = (await alice.get(f"/v1/characters/{copy['id']}")).json()
    assert left == copy | {"forked_from": None, "version": 2, "updated_at": left["updated_at"]}


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 6, 99])
async def test_an_interrupted_purge_of_a_character_goes_on_in_the_next_run(
    alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    monkeypatch.setattr(queries, "MOST_STEPS", steps)
    mira = await character(alice, visibility="public")
    path = f"/v1/characters/{mira['id']}"
    copies = [await create(charlie, f"{path}/copies") for _ in range(3)]
    others = [await character(alice, name=name) for name in "ABC"]
    for other in others:
        await create(alice, f"{path}/relationships", target=other["id"], type="mentor_of")
    for name in "abc":
        await alice.patch(path, json={"name": name})
    await _delete(alice, path)
    await _delete(alice, f"/v1/trash/{mira['id']}")
    assert (await alice.post(f"/v1/trash/{mira['id']}/restorations")).status_code == 404
    assert (await alice.get("/v1/trash")).json()["items"] == []
    assert (await alice.get("/v1/users/me/usage")).json()["characters"]["used"] == 3
    assert (await alice.get(f"/v1/characters/{others[0]['id']}/relationships")).json()["items"] == []
    assert await Character.exists().where(Character.name == "c") is (steps != 99)

    assert await purge_everything() == NOTHING
    assert await Revision.count().where(Revision.character == mira["id"]) == 0
    assert await Relationship.count() == 0
    [row] = await Character.select().where(Character.id == mira["id"])
    assert (row["name"], row["ended"], row["version"]) == ("", True, 6)
    for copy in copies:
        left = (await charlie.get(f"/v1/characters/{copy['id']}")).json()
        assert left == copy | {"forked_from": None, "version": 2, "updated_at": left["updated_at"]}
    [end] = [item for item in (await alice.get("/v1/changes")).json()["items"] if item["id"] == mira["id"]]
    assert end["deleted"]
    assert (await alice.get("/v1/users/me/usage")).json()["characters"]["used"] == 3


@pytest.mark.parametrize("fails_at", [1, 2, 3])
async def test_an_interrupted_purge_of_an_account_goes_on_in_the_next_run(
    app: Any, alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """The account was never verified. Nobody can verify it or sign in while a part of it is gone."""
    monkeypatch.setattr(accounts, "TOGETHER", 2)
    await template(alice)
    for name in "ABCDE":
        await character(alice, name=name)
    await character(charlie)
    calls = 0

    async def clear(ids: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise ConnectionError
        return await purging.clear(ids)

    me = (await alice.get("/v1/users/me")).json()
    await User.update({User.must_verify: True}).where(User.username == "alice")
    await _shift(User, "created_at", 31, me["id"])
    monkeypatch.setattr(accounts, "clear", clear)
    with pytest.raises(ConnectionError):
        await purge_everything()
    assert await Character.count() == 1 + 5 - 2 * (fails_at - 1)
    forget_tokens()
    assert (await alice.get("/v1/users/me")).status_code == 401
    login = {"login": "alice", "password": PASSWORD}
    assert (await client(app).post("/v1/sessions", json=login)).status_code == 401
    await User.update({User.must_verify: False}).where(User.username == "alice")
    assert await purge_everything() == NOTHING | {"accounts": 1}
    assert [await table.count() for table in (User, Character, Template)] == [1, 1, 0]


@pytest.mark.parametrize(("days", "gone"), [(29.9, 0), (30.1, 1)])
async def test_purge_empties_the_trash_after_thirty_days(alice: Client, days: float, gone: int) -> None:
    mira, _, _ = await _related(alice)
    await _delete(alice, f"/v1/characters/{mira['id']}")
    await _shift(Character, "deleted_at", days, mira["id"])
    assert await purge_everything() == NOTHING | {"trash": gone}
    assert await Character.count() == 2 - gone
    assert await Relationship.count() == 1 - gone


async def test_purge_deletes_expired_tokens(app: Any, alice: Client) -> None:
    async def new_session() -> str:
        return str((await create(client(app), "/v1/sessions", login="alice", password=PASSWORD))["id"])

    key = await create(
        alice,
        "/v1/api-keys",
        name="old",
        scopes=["characters:read"],
        expires_at="2099-01-01T00:00:00Z",
        current_password=PASSWORD,
    )
    lasting = await create(alice, "/v1/api-keys", name="lasting", scopes=["characters:read"], current_password=PASSWORD)
    expired, idle = await new_session(), await new_session()
    await _shift(Token, "expires_at", 365, expired)
    await _shift(Token, "last_used_at", 365, idle)
    await _shift(Token, "expires_at", 365 * 100, key["id"])
    assert await purge_everything() == NOTHING | {"tokens": 3}
    left = {str(row["id"]) for row in await Token.select(Token.id)}
    assert lasting["id"] in left
    assert not left & {expired, idle, key["id"]}
    assert (await alice.get("/v1/users/me")).status_code == 200


@pytest.mark.parametrize(("days", "gone"), [(29.9, 0), (30.1, 1)])
async def test_purge_deletes_accounts_after_thirty_days(
    app: Any, alice: Client, charlie: Client, days: float, gone: int
) -> None:
    me = (await alice.get("/v1/users/me")).json()
    rules = await template(alice)
    await create(alice, f"/v1/templates/{rules['id']}/versions", attribute_schema={"type": "object"})
    mira, _, _ = await _related(alice)
    await character(alice, template=rules["id"])
    await _delete(alice, f"/v1/characters/{mira['id']}")
    await character(charlie)
    await _leave(alice)
    assert (await alice.get("/v1/users/me")).status_code == 401
    await _shift(User, "deleted_at", days, me["id"])
    assert await purge_everything() == NOTHING | {"accounts": gone}
    counted = [await table.count() for table in (User, Character, Template, TemplateVersion, Relationship)]
    assert counted == ([1, 1, 0, 0, 0] if gone else [2, 4, 1, 2, 1])
    account = {"email": "alice@example.org", "username": "alice-again", "password": PASSWORD}
    again = await client(app).post("/v1/users", json=account)
    assert again.status_code == (201 if gone else 409)


async def _purged_after_leaving(member: Client) -> None:
    me = (await member.get("/v1/users/me")).json()
    await _leave(member)
    await _shift(User, "deleted_at", 31, me["id"])
    assert (await purge_everything())["accounts"] == 1
    forget_tokens()


async def test_a_template_used_by_others_stays_without_its_owner(app: Any, alice: Client, charlie: Client) -> None:
    used = await template(charlie, name="Used", visibility="public", prompt="{name}, strength {strength}")
    unused = await template(charlie, name="Unused", visibility="public")
    fork = await create(alice, f"/v1/templates/{unused['id']}/copies")
    original = await character(charlie, visibility="public")
    copy = await create(alice, f"/v1/characters/{original['id']}/copies")
    mira = await character(alice, template=used["id"])
    trashed = await character(alice, name="Otto", template=used["id"])
    await _delete(alice, f"/v1/characters/{trashed['id']}")
    await _purged_after_leaving(charlie)

    kept = (await alice.get(f"/v1/templates/{used['id']}")).json()
    assert (kept["owner"], kept["visibility"], kept["attribute_schema"]) == (None, "unlisted", used["attribute_schema"])
    for query in ({}, {"owner": "platform"}):
        listed = (await alice.get("/v1/templates", params=query)).json()["items"]
        assert used["id"] not in [item["id"] for item in listed], query
    assert (await alice.get(f"/v1/templates/{unused['id']}")).status_code == 404
    for kind, before in (("templates", fork), ("characters", copy)):
        left = (await alice.get(f"/v1/{kind}/{before['id']}")).json()
        assert left == before | {"forked_from": None, "version": 2, "updated_at": left["updated_at"]}
    path = f"/v1/characters/{mira['id']}"
    assert (await alice.get(path)).json() == mira
    assert (await alice.get(f"{path}/prompt")).json()["prompt"] == "Mira, strength 10"
    assert (await alice.get(f"{path}/validation")).json()["state"] == "valid"
    assert (await alice.patch(path, json={"attributes": {"strength": 20}})).status_code == 200
    assert (await alice.patch(path, json={"attributes": {"strength": 21}})).status_code == 422
    assert (await alice.post(f"/v1/trash/{trashed['id']}/restorations")).status_code == 201
    assert (await character(alice, template=used["id"]))["attributes"]["strength"] == 10
    assert (await alice.patch(f"/v1/templates/{used['id']}", json={"name": "Mine"})).status_code == 403
    await ReservedUsername.delete(force=True)
    async with await signed_in(
        app, "charlie"
    ) as another:  # the username is free again; what its owner had is not theirs
        assert (await another.patch(f"/v1/templates/{used['id']}", json={"name": "Mine"})).status_code == 403


async def test_a_private_template_still_applies_after_its_owner_left(alice: Client, charlie: Client) -> None:
    rules = await template(charlie, visibility="public")
    mira = await character(alice, template=rules["id"])
    assert (await charlie.patch(f"/v1/templates/{rules['id']}", json={"visibility": "private"})).status_code == 200
    await _purged_after_leaving(charlie)
    assert (await alice.get(f"/v1/templates/{rules['id']}")).status_code == 404
    path = f"/v1/characters/{mira['id']}"
    assert (await alice.patch(path, json={"attributes": {"strength": 21}})).status_code == 422
    assert (await alice.get(f"{path}/validation")).json()["state"] == "valid"


async def test_a_revision_whose_template_is_gone_cannot_be_restored(alice: Client, charlie: Client) -> None:
    rules = await template(charlie, visibility="public")
    mira = await character(alice, template=rules["id"])
    path = f"/v1/characters/{mira['id']}"
    free = await alice.patch(path, json={"template": None})
    await _purged_after_leaving(charlie)
    refused = await alice.post(f"{path}/revisions/1/restorations")
    assert refused.status_code == 409, refused.text
    assert (await alice.get(path)).json() == free.json()
    assert (await alice.get(f"{path}/revisions/1")).json()["character"] == mira


async def test_the_purge_command(alice: Client) -> None:
    mira = await character(alice)
    await _delete(alice, f"/v1/characters/{mira['id']}")
    await _shift(Character, "deleted_at", 31, mira["id"])
    piccolo = Path(sys.executable).parent / "piccolo"
    root = Path(__file__).parents[3]
    process = await asyncio.create_subprocess_exec(
        piccolo, "service", "purge", cwd=root, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    told = {line.strip() for line in output.decode().splitlines()}
    assert {"trash: 1 deleted", "tokens: 0 deleted", "accounts: 0 deleted"} <= told
    assert await Character.count() == 0


async def test_rows_that_another_transaction_holds_do_not_stop_a_purge(
    app: Any, alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One character's copy is locked: its purge is acknowledged and goes on in the next run, the others are purged."""
    monkeypatch.setattr(queries, "MOST_STEPS", 0)
    mira, otto = await character(alice, visibility="public"), await character(alice)
    copy = await create(charlie, f"/v1/characters/{mira['id']}/copies")
    for each in (mira, otto):
        await _delete(alice, f"/v1/characters/{each['id']}")
    await _delete(alice, f"/v1/trash/{mira['id']}")
    await _delete(alice, f"/v1/trash/{otto['id']}")
    other = await DB.get_new_connection()
    try:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM characters WHERE id = $1 FOR UPDATE", copy["id"])
        monkeypatch.setattr(queries, "MOST_STEPS", 10)
        ines = await character(alice, visibility="public")
        await _delete(alice, f"/v1/characters/{ines['id']}")
        await _delete(alice, f"/v1/trash/{ines['id']}")
        await purge_everything()
    finally:
        await other.close()
    unfinished = Character.select(Character.id).where(Character.ended.eq(True), Character.name != "")
    assert [str(row["id"]) for row in await unfinished] == [mira["id"]]
    await purge_everything()
    assert await unfinished == []
