"""A member's avatar."""

import httpx

from service.auth.suspensions import suspend_user
from tests.conftest import account_id
from tests.support.pictures import draw_picture, opened

Client = httpx.AsyncClient

AVATAR = "/v1/users/me/avatar"
PNG = {"Content-Type": "image/png"}


async def test_an_avatar_is_public(alice: Client, stranger: Client) -> None:
    assert (await stranger.get("/v1/users/alice/avatar")).status_code == 404
    made = await alice.put(AVATAR, content=draw_picture(width=90, height=60), headers=PNG)
    assert made.status_code == 200
    me = made.json()
    path, _, version = me["avatar"]["url"].partition("?v=")
    assert (path, len(version)) == ("/v1/users/alice/avatar", 12)
    assert (me["avatar"]["width"], me["avatar"]["height"]) == (90, 60)
    assert made.headers["etag"] == f'"{me["id"]}-2"'
    assert (await stranger.get("/v1/users/alice")).json()["avatar"] == me["avatar"]
    shown = await stranger.get(f"{me['avatar']['url']}&size=64")
    assert opened(shown.content).size == (64, 43)
    assert shown.headers["cache-control"] == "public, max-age=86400"
    assert (await stranger.get(path)).headers["cache-control"] == "public, no-cache"
    assert (await alice.get(f"{AVATAR}?v={version}")).headers["cache-control"] == "private, no-cache"


async def test_a_suspended_users_picture_is_not_shown(alice: Client, stranger: Client) -> None:
    await alice.put(AVATAR, content=draw_picture(), headers=PNG)
    await suspend_user(await account_id("alice"))
    assert (await stranger.get("/v1/users/alice/avatar")).status_code == 404


async def test_an_avatar_is_a_change_of_the_account(alice: Client, stranger: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()
    first = (await alice.put(AVATAR, content=draw_picture(), headers=PNG)).json()
    assert first["version"] == 2
    assert (await alice.put(AVATAR, content=draw_picture(), headers=PNG)).json() == first
    stale = {"If-Match": f'"{me["id"]}-1"'}
    assert (await alice.put(AVATAR, content=draw_picture(), headers=PNG | stale)).status_code == 412
    assert (await alice.delete(AVATAR, headers=stale)).status_code == 412
    assert (await alice.delete(AVATAR)).status_code == 204
    assert (await alice.get("/v1/users/me")).json()["version"] == 3
    assert {(await alice.delete(AVATAR)).status_code, (await alice.get(AVATAR)).status_code} == {404}
    assert (await stranger.get("/v1/users/alice/avatar")).status_code == 404


async def test_lists_and_exports_contain_the_avatar(alice: Client) -> None:
    await alice.post("/v1/characters", json={"name": "Mira"})
    avatar = (await alice.put(AVATAR, content=draw_picture(), headers=PNG)).json()["avatar"]
    listed = (await alice.get("/v1/characters", params={"expand": "owner"})).json()["items"]
    assert listed[0]["owner"]["avatar"] == avatar
    exported = (await alice.get("/v1/users/me/export")).text.splitlines()
    assert [line for line in exported if '"kind":"profile"' in line and avatar["url"] in line]
