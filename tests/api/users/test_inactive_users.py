"""Users who are suspended or have left: nobody else sees them or what they own, and their tokens end."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.auth.suspensions import reactivate_user, suspend_user
from service.auth.token_cache import forget_tokens
from service.callers import Caller
from service.characters.queries import create_character
from service.characters.schemas import CharacterCreate
from service.characters.tables import Character
from service.database.engine import DB
from service.users.tables import User
from tests.conftest import FIGHTER, PASSWORD, account_id, character, client, create, relationship, template, with_key
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient

# The responses to others for the inactive Alice and for her rows; "nothing" is a list without an item.
NOT_FOUND, NOTHING = 404, "nothing"
READS: dict[str, Any] = {
    "/users/alice": NOT_FOUND,
    "/users/alice/avatar": NOT_FOUND,
    "/characters?limit=100": NOTHING,
    "/characters?owner=alice": NOTHING,
    "/characters?q=Mira": NOTHING,
    "/characters?sort=name": NOTHING,
    "/characters?sort=updated_at": NOTHING,
    "/characters?tags=seen": NOTHING,
    "/characters?style=anime": NOTHING,
    "/characters?count=exact": NOTHING,
    "/characters?expand=owner,template": NOTHING,
    "/characters?template={template}": NOTHING,
    "/characters/{public}": NOT_FOUND,
    "/characters/{public}?expand=owner": NOT_FOUND,
    "/characters/{unlisted}": NOT_FOUND,
    "/characters/{unlisted}?expand=owner": NOT_FOUND,
    "/characters/{public}/graph": NOT_FOUND,
    "/characters/{public}/relationships": NOT_FOUND,
    "/characters/{public}/card": NOT_FOUND,
    "/characters/{public}/prompt": NOT_FOUND,
    "/characters/{public}/validation": NOT_FOUND,
    "/relationships/{relationship}": NOT_FOUND,
    "/templates?limit=100": NOTHING,
    "/templates?owner=alice": NOTHING,
    "/templates?count=exact&expand=owner": NOTHING,
    "/templates/{template}": NOT_FOUND,
    "/templates/{template}/usage": NOT_FOUND,
    "/templates/{template}/versions": NOT_FOUND,
    "/templates/{template}/versions/1": NOT_FOUND,
    "/templates/{template}/versions/1/schema": NOT_FOUND,
    "/templates/{template}/versions/1/changes": NOT_FOUND,
}
WRITES: dict[str, Any] = {
    "/characters/{public}/copies": {},
    "/characters/{unlisted}/copies": {},
    "/templates/{template}/copies": {},
    "/templates/{template}/versions": {"attribute_schema": FIGHTER},
    "/characters": {"name": "Ines", "template": "{template}"},
}


async def belongings(alice: Client) -> dict[str, str]:
    assert (await alice.put("/v1/users/me/avatar", content=draw_picture())).status_code == 200
    rules = await template(alice, visibility="public")
    about = {"template": rules["id"], "tags": ["seen"], "style": "anime"}
    public = await character(alice, visibility="public", **about)
    other = await character(alice, visibility="public", name="Other")
    unlisted = await character(alice, visibility="unlisted")
    related = await relationship(alice, public, other)
    return {
        "template": rules["id"],
        "public": public["id"],
        "unlisted": unlisted["id"],
        "relationship": related["id"],
    }


async def deactivate(alice: Client, how: str) -> None:
    if how == "suspended":
        await suspend_user(await account_id("alice"))
    else:
        left = await alice.request("DELETE", "/v1/users/me", json={"password": PASSWORD})
        assert left.status_code == 204
    forget_tokens()


async def seen(caller: Client, ids: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in READS:
        answer = await caller.get("/v1" + path.format(**ids))
        is_list = answer.status_code == 200 and path.startswith(("/characters?", "/templates?"))
        listed = answer.json() if is_list else {}
        found[path] = NOTHING if listed.get("items") == [] and listed.get("total", 0) == 0 else answer.status_code
    return found


@pytest.mark.parametrize("how", ["suspended", "departed"])
async def test_nobody_sees_an_inactive_user_or_what_they_own(
    stranger: Client, alice: Client, charlie: Client, how: str
) -> None:
    ids = await belongings(alice)
    for caller in (stranger, charlie):
        assert set((await seen(caller, ids)).values()) == {200}
    await deactivate(alice, how)
    for caller in (stranger, charlie):
        assert await seen(caller, ids) == READS
    for path, body in WRITES.items():
        sent = {name: value.format(**ids) if isinstance(value, str) else value for name, value in body.items()}
        answer = await charlie.post("/v1" + path.format(**ids), json=sent)
        assert answer.status_code == 404, path


@pytest.mark.parametrize("how", ["suspended", "departed"])
async def test_a_character_on_an_inactive_users_template_keeps_working(
    stranger: Client, alice: Client, charlie: Client, how: str
) -> None:
    rules = await template(alice, visibility="public", prompt="{name}, {race}")
    mine = await character(charlie, template=rules["id"], visibility="public", attributes={"race": "elf"})
    path = f"/v1/characters/{mine['id']}"
    await deactivate(alice, how)

    for caller in (stranger, charlie):
        read = (await caller.get(path, params={"expand": "template"})).json()
        assert read["template"] == {"id": rules["id"], "version": 1}
    assert (await charlie.get(f"{path}/prompt")).json()["prompt"] == "Mira, elf"
    assert (await stranger.get(f"{path}/prompt")).json()["prompt"] == ""
    assert (await charlie.get(f"{path}/validation")).json()["state"] == "valid"
    assert (await charlie.patch(path, json={"attributes": {"race": "dragon"}})).status_code == 422
    assert (await charlie.patch(path, json={"attributes": {"race": "dwarf"}})).status_code == 200


async def test_a_reactivated_user_is_seen_again_but_signs_in_anew(
    app: Any, stranger: Client, alice: Client, charlie: Client
) -> None:
    ids = await belongings(alice)
    key = await with_key(app, alice, "characters:read")
    followed = (await alice.get("/v1/changes?limit=100")).json()["next_cursor"]
    await suspend_user(await account_id("alice"))
    assert await seen(stranger, ids) == READS
    await reactivate_user(await account_id("alice"))
    forget_tokens()

    assert set((await seen(stranger, ids)).values()) == {200}
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await key.get("/v1/characters")).status_code == 401
    session = await create(stranger, "/v1/sessions", login="alice", password=PASSWORD)
    anew = client(app, Authorization=f"Bearer {session['token']}")
    assert (await anew.get("/v1/users/me")).status_code == 200
    # Neither the suspension nor its end is a change of a character
    assert (await anew.get("/v1/changes", params={"after": followed})).json()["items"] == []


async def test_a_key_created_while_the_suspension_spreads_does_not_outlive_it(app: Any, alice: Client) -> None:
    await suspend_user(await account_id("alice"))
    # The session is still in this worker's cache
    made = await alice.post("/v1/api-keys", json={"name": "late", "scopes": ["characters:read"]})
    await reactivate_user(await account_id("alice"))
    forget_tokens()
    if made.status_code == 201:
        late = client(app, Authorization=f"Bearer {made.json()['token']}")
        assert (await late.get("/v1/characters")).status_code == 401


@pytest.mark.parametrize("first", ["create", "suspend"])
async def test_a_character_created_during_a_suspension_is_hidden(alice: Client, first: str) -> None:
    me = (await alice.get("/v1/users/me")).json()
    held, release = asyncio.Event(), asyncio.Event()

    async def work(name: str) -> None:
        if name == "suspend":
            await suspend_user(await account_id("alice"))
        else:
            caller = Caller(id=UUID(me["id"]), username="alice", token_id=None, kind="session", scopes=frozenset())
            await create_character(caller, CharacterCreate(name="Mira", visibility="public"))

    async def hold(name: str) -> None:
        async with DB.transaction():
            await work(name)
            held.set()
            await release.wait()

    holding = asyncio.create_task(hold(first))
    await asyncio.wait_for(held.wait(), 5)
    following = asyncio.create_task(work("create" if first == "suspend" else "suspend"))
    await asyncio.sleep(0.3)
    assert not following.done(), "it did not wait for the other"
    release.set()
    await asyncio.gather(holding, following)
    assert await User.select(User.status).output(as_list=True) == ["suspended"]
    assert await Character.select(Character.owner_inactive).output(as_list=True) == [True]
