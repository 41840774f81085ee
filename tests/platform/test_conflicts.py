"""Each 409 and each 412 names the member, the parameter or the header that is in conflict or stale.
``tests/support/answers.py`` checks in every test that none comes without, also as the outcome of an operation or a
file."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from uuid import UUID

import httpx
import pytest

from service.callers import Caller
from service.characters.queries import create_character
from service.characters.schemas import CharacterCreate
from service.database.engine import DB
from service.errors import Conflict
from tests.conftest import FIGHTER, PASSWORD, character, create, faults, public, relationship, template
from tests.support.locks import until_waiting
from tests.support.pictures import give_portrait

Client = httpx.AsyncClient
Attempt = Callable[[Client], Awaitable[httpx.Response]]


def sign_up(**taken: str) -> Attempt:
    body = {"email": "new@example.org", "username": "new", "password": PASSWORD} | taken
    return lambda alice: alice.post("/v1/users", json=body)


async def take_an_email(alice: Client) -> httpx.Response:
    change = {"email": "charlie@example.org", "current_password": PASSWORD}
    return await alice.patch("/v1/users/me", json=change)


async def repeat_a_relationship(alice: Client) -> httpx.Response:
    mira, otto = await character(alice), await character(alice)
    await relationship(alice, mira, otto, type="parent_of")
    body = {"target": mira["id"], "type": "child_of"}
    return await alice.post(f"/v1/characters/{otto['id']}/relationships", json=body)


async def retired(alice: Client) -> str:
    rules = await template(alice)
    assert (await alice.delete(f"/v1/templates/{rules['id']}")).status_code == 204
    return str(rules["id"])


async def use_a_retired_template(alice: Client) -> httpx.Response:
    return await alice.post("/v1/characters", json={"name": "Mira", "template": await retired(alice)})


async def draft_for_a_retired_template(alice: Client) -> httpx.Response:
    return await alice.post(f"/v1/templates/{await retired(alice)}/versions", json={"attribute_schema": FIGHTER})


def deprecate(number: int) -> Attempt:
    async def attempt(alice: Client) -> httpx.Response:
        versions = f"/v1/templates/{(await template(alice))['id']}/versions"
        await create(alice, versions, attribute_schema=FIGHTER)
        return await alice.put(f"{versions}/{number}/deprecation")

    return attempt


CONFLICTS: dict[str, tuple[Attempt, set[str]]] = {
    "a taken e-mail address": (sign_up(email="Alice@example.org"), {"/email"}),
    "a taken username": (sign_up(username="alice"), {"/username"}),
    "both taken": (sign_up(email="alice@example.org", username="alice"), {"/email", "/username"}),
    "a new address that is taken": (take_an_email, {"/email"}),
    "the same relationship from the other side": (repeat_a_relationship, {"/type"}),
    "a character of a retired template": (use_a_retired_template, {"/template"}),
    "a version of a retired template": (draft_for_a_retired_template, {"template_id"}),
    "the last version": (deprecate(1), {"number"}),
    "a draft": (deprecate(2), {"number"}),
}


@pytest.mark.parametrize("name", CONFLICTS)
async def test_a_conflict_names_its_place(alice: Client, charlie: Client, name: str) -> None:
    attempt, places = CONFLICTS[name]
    answer = await attempt(alice)
    assert (answer.status_code, faults(answer).keys()) == (409, places)


async def test_what_is_deleted_during_a_request_is_named(alice: Client, charlie: Client) -> None:
    rules = await template(alice, visibility="public")
    mira, shown, purged = await character(charlie), await public(alice), await public(alice)
    portrait = await give_portrait(shown)
    requests = {
        "/template": alice.post("/v1/characters", json={"name": "Mira", "template": rules["id"]}),
        "/template ": charlie.patch(f"/v1/characters/{mira['id']}", json={"template": rules["id"]}),
        "character_id": charlie.post(f"/v1/characters/{shown['id']}/copies", json={}),
        "character_id ": alice.post(f"/v1/characters/{purged['id']}/copies", json={}),
    }
    outside = copy_context()
    async with DB.transaction():
        for statement, value in (
            ("DELETE FROM template_versions WHERE template = $1", UUID(rules["id"])),
            ("DELETE FROM templates WHERE id = $1", UUID(rules["id"])),
            ("UPDATE characters SET portrait = NULL WHERE portrait = $1", portrait),
            ("DELETE FROM files WHERE name = $1", portrait),
            ("DELETE FROM characters WHERE id = $1", UUID(purged["id"])),
        ):
            await DB._run_in_pool(statement, [value])
        tasks = [asyncio.create_task(request, context=outside.copy()) for request in requests.values()]
        await until_waiting(*tasks)
    for place, answer in zip(requests, await asyncio.gather(*tasks), strict=True):
        assert (answer.status_code, faults(answer).keys()) == (409, {place.strip()}), answer.text


async def test_a_picture_that_is_deleted_during_an_import_is_named(alice: Client) -> None:
    owner = Caller(id=UUID((await character(alice))["owner"]["id"]), kind="session")
    with pytest.raises(Conflict) as raised:
        await create_character(owner, CharacterCreate(name="Mira"), portrait="0" * 64)
    assert [fault.pointer for fault in raised.value.errors] == ["/file"]
