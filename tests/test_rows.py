"""Whose rows are whose: what is private is not there for anybody else, what is public is not theirs to change."""

from typing import Any

import httpx
import pytest

from tests.conftest import FIGHTER, character, create, relationship, template
from tests.pictures import drawn, give_portrait
from tests.test_guards import MIGRATION, PUBLIC, ROUTES

Client = httpx.AsyncClient

ABOUT_ROWS = {route for route in ROUTES if "_id}" in route}
CHANGES = {route for route in ABOUT_ROWS if not route.startswith("GET")}
TRASH = {route for route in ABOUT_ROWS if "/v1/trash/" in route}
ONES_OWN = TRASH | {route for route in ABOUT_ROWS if "{session_id}" in route or "{key_id}" in route}
# Reads what is public, and writes only what is the caller's own.
ANYBODYS = {
    "POST /v1/characters/{character_id}/copies": 201,
    "POST /v1/templates/{template_id}/copies": 201,
    MIGRATION: 200,
}
# Where the answer is 404 by contract: both ends of a relationship are the caller's own.
RELATING = "POST /v1/characters/{character_id}/relationships"
CARDING = "PUT /v1/characters/{character_id}/card"
PORTRAYING = "PUT /v1/characters/{character_id}/portrait"
PICTURE = drawn()


async def belongings(alice: Client, visibility: str) -> dict[str, str]:
    """The ids of one of each that Alice has."""
    fighter = await template(alice, visibility=visibility)
    await create(alice, f"/v1/templates/{fighter['id']}/versions", attribute_schema=FIGHTER)
    mira, sol = [await character(alice, visibility=visibility, template=fighter["id"]) for _ in range(2)]
    await give_portrait(mira)
    trashed = await character(alice, visibility=visibility)
    assert (await alice.delete(f"/v1/characters/{trashed['id']}")).status_code == 204
    key = await create(alice, "/v1/api-keys", name="CI", scopes=["characters:read"])
    return {
        "template_id": fighter["id"],
        "number": "1",
        "character_id": mira["id"],
        "trashed_id": trashed["id"],
        "relationship_id": (await relationship(alice, mira, sol))["id"],
        "key_id": key["id"],
        "session_id": (await alice.get("/v1/sessions")).json()["items"][0]["id"],
    }


async def call(member: Client, route: str, ids: dict[str, str]) -> httpx.Response:
    """The route, with a body that would do."""
    bodies = {
        RELATING: {"target": (await character(member))["id"], "type": "serves"}
        if "authorization" in member.headers
        else {},
        "POST /v1/templates/{template_id}/versions": {"attribute_schema": FIGHTER},
    }
    if route in TRASH:
        ids = ids | {"character_id": ids["trashed_id"]}
    method, path = route.format(**ids).split()
    if route == PORTRAYING:
        return await member.put(path, content=PICTURE)
    with_body = {"json": bodies.get(route, {})} if method in ("POST", "PATCH") or route == CARDING else {}
    return await member.request(method, path, **with_body)


async def all_of(alice: Client, ids: dict[str, str]) -> list[Any]:
    reads = ["GET /v1/trash", *sorted(route for route in ABOUT_ROWS if route.startswith("GET"))]
    answers = [await call(alice, route, ids) for route in reads]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


@pytest.mark.parametrize("route", sorted(ABOUT_ROWS))
async def test_what_is_private_is_not_there_for_another(alice: Client, charlie: Client, route: str) -> None:
    ids = await belongings(alice, "private")
    before = await all_of(alice, ids)
    answer = await call(charlie, route, ids)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert await all_of(alice, ids) == before


@pytest.mark.parametrize("route", sorted(ABOUT_ROWS))
async def test_what_is_private_is_not_there_for_a_stranger(alice: Client, stranger: Client, route: str) -> None:
    answer = await call(stranger, route, await belongings(alice, "private"))
    assert answer.status_code == (404 if route in PUBLIC else 401)


@pytest.mark.parametrize("route", sorted(CHANGES - ONES_OWN - ANYBODYS.keys() - {RELATING}))
async def test_what_is_public_is_not_anothers_to_change(alice: Client, charlie: Client, route: str) -> None:
    ids = await belongings(alice, "public")
    before = await all_of(alice, ids)
    answer = await call(charlie, route, ids)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert await all_of(alice, ids) == before


@pytest.mark.parametrize("route", sorted(ANYBODYS))
async def test_what_is_public_is_anothers_to_begin_with(alice: Client, charlie: Client, route: str) -> None:
    ids = await belongings(alice, "public")
    before = await all_of(alice, ids)
    assert (await call(charlie, route, ids)).status_code == ANYBODYS[route]
    assert await all_of(alice, ids) == before


@pytest.mark.parametrize("route", sorted(TRASH))
async def test_what_was_public_is_not_there_for_another_once_it_is_in_the_trash(
    alice: Client, charlie: Client, route: str
) -> None:
    ids = await belongings(alice, "public")
    before = await all_of(alice, ids)
    assert (await call(charlie, route, ids)).status_code == 404
    assert await all_of(alice, ids) == before


@pytest.mark.parametrize("route", sorted(CHANGES))
async def test_what_is_public_is_its_owners_to_change(alice: Client, route: str) -> None:
    answer = await call(alice, route, await belongings(alice, "public"))
    assert answer.status_code in (200, 201, 204, 409)


async def test_everybody_reads_what_is_public(alice: Client, stranger: Client) -> None:
    ids = await belongings(alice, "public")
    for route in ABOUT_ROWS & PUBLIC:
        assert (await call(stranger, route, ids)).status_code == 200, route


async def test_what_is_unlisted_is_found_by_its_id_alone(alice: Client, charlie: Client) -> None:
    ids = await belongings(alice, "unlisted")
    for thing in ("character", "template"):
        assert (await charlie.get(f"/v1/{thing}s/{ids[f'{thing}_id']}")).status_code == 200
        assert (await charlie.patch(f"/v1/{thing}s/{ids[f'{thing}_id']}", json={})).status_code == 403
        assert (await charlie.get(f"/v1/{thing}s")).json()["items"] == []


async def test_what_becomes_private_is_gone_for_the_others(alice: Client, charlie: Client) -> None:
    ids = await belongings(alice, "public")
    path = f"/v1/characters/{ids['character_id']}"
    assert (await charlie.get(path)).status_code == 200
    await alice.patch(path, json={"visibility": "private"})
    assert (await charlie.get(path)).status_code == 404
    assert (await charlie.get(f"/v1/relationships/{ids['relationship_id']}")).status_code == 404


async def test_a_public_character_keeps_its_private_template_private(alice: Client, charlie: Client) -> None:
    fighter = await template(alice)
    mira = await character(alice, visibility="public", template=fighter["id"])
    seen = (await charlie.get(f"/v1/characters/{mira['id']}")).json()
    assert seen["template"] == {"id": fighter["id"], "version": 1}
    assert (await charlie.get(f"/v1/templates/{fighter['id']}")).status_code == 404
