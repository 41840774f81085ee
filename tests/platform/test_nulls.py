"""Null for a member of a body has one meaning everywhere: its default. A member without a default refuses it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from litestar.handlers.http_handlers import HTTPRouteHandler
from msgspec import UNSET

from service.app import app as application
from service.characters.bulk import Operation
from service.characters.schemas import TemplateGiven
from service.errors import Unprocessable
from service.inputs import Input
from service.users.schemas import Link
from service.validation import convert
from service.web.openapi import _body_of
from service.web.openapi_examples import EXAMPLES
from tests.conftest import FIGHTER, character, create, faults, template

Client = httpx.AsyncClient
ID = "0199c0de-0000-7000-8000-000000000000"
_INNER: dict[type[Input], dict[str, Any]] = {
    Operation: {"action": "delete"},
    TemplateGiven: {"id": ID},
    Link: {"title": "A", "url": "https://example.org"},
}


def bodies() -> dict[type[Input], dict[str, Any]]:
    """An example of each Struct that a client sends."""
    handlers = [each for route in application.routes for each in getattr(route, "route_handlers", ())]
    found = {
        _body_of(each): EXAMPLES[str(each.handler_name)]
        for each in handlers
        if isinstance(each, HTTPRouteHandler) and str(each.handler_name) in EXAMPLES
    }
    return _INNER | found


MEMBERS = {
    f"{kind.__name__}.{field.encode_name}": (kind, example, field)
    for kind, example in sorted(bodies().items(), key=lambda body: body[0].__name__)
    for field in msgspec.structs.fields(kind)
}


def test_every_body_is_covered() -> None:
    waiting, kinds = [Input], set[Any]()
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        kinds |= {kind for kind in below if kind.__struct_fields__}
    assert kinds <= bodies().keys()


@pytest.mark.parametrize("member", MEMBERS)
def test_null_is_the_default_or_is_refused(member: str) -> None:
    kind, example, field = MEMBERS[member]
    given = example | {field.encode_name: None}
    if field.required or member in ("CharacterUpdate.name", "TemplateUpdate.name"):  # no row is without a name
        with pytest.raises(Unprocessable) as refused:
            convert(given, kind)
        assert [fault.pointer for fault in refused.value.errors] == [f"/{field.encode_name}"]
    else:
        left_out = {name: value for name, value in example.items() if name != field.encode_name}
        default = getattr(convert(left_out, kind), field.name)
        read = getattr(convert(given, kind), field.name)
        assert read == (None if default is UNSET else default), "absent and null differ in a change only"


@pytest.fixture
async def made(alice: Client, kind: str) -> AsyncIterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    """The path to create a row of ``kind``, the least body, and the path of a row whose members all have values, with
    these values."""
    full: dict[str, Any]
    if kind == "characters":
        values = {"description": "A", "prompt": "B", "style": "anime", "tags": ["c"], "visibility": "public"}
        full = values | {"name": "D", "attributes": {"a": 1}, "extensions": {"e": 1}}
        full |= {"template": (await template(alice, attribute_schema={"type": "object"}))["id"], "template_version": 1}
        path, least = "/v1/characters", {"name": "New"}
    elif kind == "templates":
        full = {"name": "A", "description": "B", "style": "anime", "tags": ["c"], "visibility": "public"}
        path, least = "/v1/templates", {"name": "New", "attribute_schema": FIGHTER}
    else:
        mira, otto, ines = [(await character(alice))["id"] for _ in range(3)]
        full = {"description": "A", "attitude": 1, "returned_attitude": 2}
        path, least = f"/v1/characters/{mira}/relationships", {"target": ines, "type": "friend_of"}
        row = await create(alice, path, target=otto, type="friend_of", **full)
        yield path, least, f"/v1/relationships/{row['id']}?from={mira}", full
        return
    row = await create(alice, path, **full)
    yield path, least, f"{path}/{row['id']}", full


@pytest.mark.parametrize("kind", ["characters", "templates", "relationships"])
async def test_null_resets_to_what_a_creation_without_it_gives(alice: Client, kind: str, made: Any) -> None:
    path, least, row, full = made
    for member in full:
        shown = "template" if member == "template_version" else member
        created = await alice.post(f"{path}?dry_run=true", json=least | {member: None})
        changed = await alice.patch(f"{row}{'&' if '?' in row else '?'}dry_run=true", json={member: None})
        if member == "name":
            assert created.status_code == changed.status_code == 422
            assert list(faults(created)) == list(faults(changed)) == ["/name"]
            continue
        absent = (await alice.post(f"{path}?dry_run=true", json={**least})).json()[shown]
        assert (created.status_code, changed.status_code) == (200, 200), (member, created.text, changed.text)
        assert created.json()[shown] == absent, member
        if member != "template_version":  # null is the newest version of the template that stays
            assert changed.json()[shown] == absent, member


async def test_null_attributes_become_the_defaults(alice: Client) -> None:
    fighter = await template(alice)
    mira = await character(alice, template=fighter["id"], attributes={"strength": 3, "motto": "A"})
    changed = await alice.patch(f"/v1/characters/{mira['id']}", json={"attributes": None})
    assert changed.json()["attributes"] == {"strength": 10, "race": "human"}


async def test_null_resets_a_profile_as_a_sign_up_leaves_it(alice: Client, stranger: Client) -> None:
    values: dict[str, Any] = {"display_name": "A", "bio": "B", "links": [{"title": "C", "url": "https://example.org"}]}
    assert (await alice.patch("/v1/users/me", json=values)).status_code == 200
    reset = (await alice.patch("/v1/users/me", json=dict.fromkeys([*values, "current_password"]))).json()
    account = {"email": "new@example.org", "username": "new", "password": "a long enough password"}
    new = (await stranger.post("/v1/users", json=account | {"display_name": None})).json()
    assert [reset[name] for name in values] == [new[name] for name in values] == ["", "", []]


async def test_null_members_of_an_operation_are_as_if_left_out(alice: Client) -> None:
    mira = await character(alice)
    operations = [
        {"action": "create", "id": None, "version": None, "body": {"name": "New", "tags": None}},
        {"action": "update", "id": mira["id"], "version": None, "body": {"name": "Mira II"}},
        {"action": "delete", "id": mira["id"], "version": 2, "body": None},
    ]
    answer = await alice.post("/v1/characters/bulk", json={"operations": operations, "atomic": None})
    assert [item["status"] for item in answer.json()["items"]] == [201, 200, 204]
