"""A row that was read can be sent back to PATCH, with changes."""

import json
from typing import Any

import httpx
import pytest

from service.users.tables import User
from tests.conftest import PASSWORD, character, faults, public, relationship, template
from tests.support.cards import V2, in_json
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient
KINDS: dict[str, dict[str, Any]] = {
    "characters": {"name": "New"},
    "templates": {"name": "New"},
    "relationships": {"description": "New"},
    "users": {"bio": "New"},
}
READ_ONLY: dict[str, dict[str, Any]] = {  # members with other values
    "characters": {"id": "x", "owner": {"id": "x"}, "portrait": None, "created_at": "now"},
    "templates": {"owner": None, "prompt": "New", "attribute_schema": {"type": "object", "title": "New"}},
    "relationships": {"type": "rival_of", "source": {}, "target": {}},
    "users": {"id": 1, "username": "new", "avatar": {}, "email_verified": True, "created_at": None},
}
LINK = {"title": "Blog", "url": "https://example.org/alice"}
SAME: dict[str, dict[str, Any]] = {  # changes to what a new row has
    "characters": {"prompt": None, "attributes": {"motto": None}},
    "templates": {"description": "", "visibility": None},
    "relationships": {"description": None, "attitude": None, "inverse_label": None},
    "users": {"display_name": None, "bio": "", "links": [LINK]},
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def path(alice: Client, kind: str) -> str:
    """The path of a row of Alice whose members all have values."""
    png = {"Content-Type": "image/png"}
    if kind == "templates":
        return f"/v1/templates/{(await template(alice))['id']}"
    if kind == "users":
        assert (await alice.patch("/v1/users/me", json={"links": [LINK]})).status_code == 200
        assert (await alice.put("/v1/users/me/avatar", content=draw_picture(), headers=png)).status_code == 200
        return "/v1/users/me"
    mira = await character(alice, template=(await template(alice))["id"], extensions={"a": [1.5]}, tags=["night"])
    if kind == "relationships":
        otto = await character(alice, name="Otto")
        return f"/v1/relationships/{(await relationship(alice, mira, otto))['id']}?from={otto['id']}"
    path = f"/v1/characters/{mira['id']}"
    assert (await alice.put(f"{path}/portrait", content=draw_picture(), headers=png)).status_code == 200
    return path


@EVERY_KIND
async def test_a_read_row_is_sent_back_with_a_change(alice: Client, kind: str, path: str) -> None:
    read = await alice.get(path)
    body = read.json() | KINDS[kind]
    answer = await alice.patch(path, json=body, headers={"If-Match": read.headers["etag"]})
    assert answer.status_code == 200, answer.text
    unlike = {name for name, value in answer.json().items() if value != body[name]}
    assert unlike == {"version", "updated_at"}
    again = answer.json() | {"created_at": answer.json()["created_at"].replace("Z", "+00:00")}
    assert (await alice.patch(path, json=again)).status_code == 200, "a time in another form is the same"


@EVERY_KIND
async def test_a_patch_that_changes_nothing_creates_no_version(alice: Client, kind: str, path: str) -> None:
    read = await alice.get(path)
    for same in ({}, read.json(), SAME[kind]):
        answer = await alice.patch(path, json=same)
        assert (answer.json(), answer.headers["etag"]) == (read.json(), read.headers["etag"]), same
    partly = await alice.patch(path, json=read.json() | KINDS[kind], headers={"If-Match": read.headers["etag"]})
    assert partly.json()["version"] == read.json()["version"] + 1


PNG: dict[str, Any] = {"content": draw_picture(), "headers": {"Content-Type": "image/png"}}
CARD = {"files": {"file": ("mira.json", in_json(V2))}}


@pytest.mark.parametrize(
    ("path", "row", "sent"),
    [
        ("/v1/users/me/avatar", "/v1/users/me", PNG),
        ("/v1/characters/{character}/portrait", "/v1/characters/{character}", PNG),
        ("/v1/characters/{character}/card", "/v1/characters/{character}", {"json": {"first_mes": "Hello."}}),
        ("/v1/characters/{character}/card", "/v1/characters/{character}", CARD),
        ("/v1/templates/{template}/versions/2/publication", "/v1/templates/{template}", {}),
        ("/v1/templates/{template}/versions/1/deprecation", "/v1/templates/{template}", {}),
    ],
)
async def test_a_put_that_is_repeated_creates_no_version(
    alice: Client, path: str, row: str, sent: dict[str, Any]
) -> None:
    fighter, mira = await template(alice), await character(alice)
    ids = {"template": fighter["id"], "character": mira["id"]}
    versions = f"/v1/templates/{fighter['id']}/versions"
    await alice.post(versions, json={"attribute_schema": {"type": "object"}})
    assert "publication" in path or (await alice.put(f"{versions}/2/publication")).status_code == 200
    path, row = path.format(**ids), row.format(**ids)
    before = (await alice.get(row)).json()
    assert (await alice.put(path, **sent)).status_code == 200
    first = (await alice.get(row)).json()
    assert first["version"] > before["version"]
    assert (await alice.put(path, **sent)).status_code == 200
    assert (await alice.get(row)).json() == first


@EVERY_KIND
async def test_changed_read_only_members_are_refused(alice: Client, kind: str, path: str) -> None:
    read = await alice.get(path)
    answer = await alice.patch(path, json=read.json() | KINDS[kind] | READ_ONLY[kind] | {"colour": 1})
    assert answer.status_code == 422
    assert set(faults(answer)) == {f"/{name}" for name in READ_ONLY[kind]} | {"/colour"}
    assert "read-only" in faults(answer)[f"/{next(iter(READ_ONLY[kind]))}"]
    assert (await alice.get(path)).content == read.content


@EVERY_KIND
async def test_a_stale_row_is_a_failed_precondition(alice: Client, kind: str, path: str) -> None:
    stale = await alice.get(path)
    await alice.patch(path, json=KINDS[kind])
    body = stale.json() | dict.fromkeys(KINDS[kind], "Late")
    for read_only in ({}, {"created_at": "1999-12-31T23:59:59Z"}):  # which another request may have changed
        answer = await alice.patch(path, json=body | read_only, headers={"If-Match": stale.headers["etag"]})
        assert answer.status_code == 412
    last = await alice.patch(path, json=body)
    assert (last.status_code, last.json()["version"]) == (200, stale.json()["version"] + 2), last.text
    assert {name: last.json()[name] for name in KINDS[kind]} == dict.fromkeys(KINDS[kind], "Late"), (
        "the last write wins"
    )


async def test_an_expanded_character_is_sent_back(alice: Client) -> None:
    mira = await character(alice, template=(await template(alice))["id"])
    path = f"/v1/characters/{mira['id']}"
    expanded = (await alice.get(path, params={"expand": "owner,template"})).json()
    answer = await alice.patch(path, json=expanded | {"name": "New"})
    assert (answer.status_code, answer.json()["template"]) == (200, mira["template"]), answer.text
    foreign = answer.json() | {"owner": expanded["owner"] | {"id": mira["id"]}}
    assert list(faults(await alice.patch(path, json=foreign))) == ["/owner"]


async def test_a_template_is_given_as_it_is_read(alice: Client) -> None:
    fighter = await template(alice)
    versions = f"/v1/templates/{fighter['id']}/versions"
    await alice.post(versions, json={"attribute_schema": {"type": "object"}})
    assert (await alice.put(f"{versions}/2/publication")).status_code == 200
    for given, version, number in (
        ({"id": fighter["id"]}, None, 2),
        ({"id": fighter["id"], "version": 1}, None, 1),
        ({"id": fighter["id"], "version": 1}, 2, 2),
    ):
        body = {"name": "Mira", "template": given} | ({"template_version": version} if version else {})
        made = await character(alice, **body)
        assert made["template"] == {"id": fighter["id"], "version": number}
        moved = await alice.patch(f"/v1/characters/{(await character(alice))['id']}", json=body)
        assert (moved.status_code, moved.json()["template"]) == (200, made["template"])
    wrong = await alice.post("/v1/characters", json={"name": "Mira", "template": {"id": 1, "colour": 1}})
    assert set(faults(wrong)) == {"/template/id", "/template/colour"}


NOBODY = "0199c0de-0000-7000-8000-000000000000"
PINS: list[tuple[dict[str, Any], tuple[int, set[str]]]] = [  # TEMPLATE stands for the id of a template
    ({"template": "TEMPLATE", "template_version": 99}, (404, {"/template_version"})),
    ({"template": {"id": "TEMPLATE", "version": 99}}, (404, {"/template/version"})),
    ({"template": {"id": "TEMPLATE", "version": 99}, "template_version": None}, (404, {"/template/version"})),
    ({"template": {"id": "TEMPLATE", "version": 1}, "template_version": 99}, (404, {"/template_version"})),
    ({"template": {"id": "TEMPLATE"}, "template_version": 99}, (404, {"/template_version"})),
    ({"template": NOBODY}, (404, {"/template"})),
    ({"template": {"id": NOBODY}}, (404, {"/template/id"})),
    ({"template": {"id": NOBODY, "version": 1}}, (404, {"/template/id"})),
    ({"template": {"id": NOBODY}, "template_version": 1}, (404, {"/template/id"})),
    ({"template": "RETIRED"}, (409, {"/template"})),
    ({"template": {"id": "RETIRED", "version": 1}}, (409, {"/template/id"})),
    ({"template_version": 1}, (422, {"/template_version"})),
    ({"template": None, "template_version": 1}, (422, {"/template_version"})),
]


@pytest.mark.parametrize(("given", "expected"), PINS)
async def test_a_fault_of_a_template_is_at_what_was_sent(
    alice: Client, given: dict[str, Any], expected: tuple[int, set[str]]
) -> None:
    fighter, retired, mira = await template(alice), await template(alice), await character(alice)
    assert (await alice.delete(f"/v1/templates/{retired['id']}")).status_code == 204
    text = json.dumps({"name": "New"} | given).replace("TEMPLATE", fighter["id"]).replace("RETIRED", retired["id"])
    body = json.loads(text)
    operations = [{"action": "create", "body": body}, {"action": "update", "id": mira["id"], "body": body}]
    items = (await alice.post("/v1/characters/bulk", json={"operations": operations})).json()["items"]
    answers = [
        await alice.post("/v1/characters", json=body),
        await alice.patch(f"/v1/characters/{mira['id']}", json=body),
    ]
    for problem in [answer.json() for answer in answers] + [item["problem"] for item in items]:
        assert (problem["status"], {error["pointer"] for error in problem["errors"]}) == expected


async def test_a_template_that_became_private_is_a_fault_of_the_version_alone(alice: Client, charlie: Client) -> None:
    """Charlie sends the version only, and keeps the template that he cannot see any more."""
    shown = await template(alice, visibility="public")
    mira = await character(charlie, template=shown["id"])
    await alice.patch(f"/v1/templates/{shown['id']}", json={"visibility": "private"})
    answer = await charlie.patch(f"/v1/characters/{mira['id']}", json={"template_version": 2})
    assert (answer.status_code, set(faults(answer))) == (404, {"/template_version"})


async def test_a_bulk_update_takes_a_read_character(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    operations = [
        {"action": "update", "id": mira["id"], "version": 1, "body": mira | {"name": "New"}},
        {"action": "update", "id": otto["id"], "body": otto | {"version": 9, "created_at": "now"}},
    ]
    items = (await alice.post("/v1/characters/bulk", json={"operations": operations})).json()["items"]
    assert [item["status"] for item in items] == [200, 422]
    assert items[0]["character"]["name"] == "New"
    assert [error["pointer"] for error in items[1]["problem"]["errors"]] == ["/created_at"]


async def test_rows_of_others_are_hidden_or_refused(alice: Client, charlie: Client) -> None:
    shown, hidden = await public(alice), await character(alice)
    assert (await charlie.patch(f"/v1/characters/{shown['id']}", json=shown)).status_code == 403
    assert (await charlie.patch(f"/v1/characters/{hidden['id']}", json=hidden)).status_code == 404


async def test_the_own_email_needs_no_password_and_another_one_does(alice: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()
    assert (await alice.patch("/v1/users/me", json=me)).status_code == 200
    other = me | {"email": "other@example.org"}
    other = {name: other[name] for name in ("id", "email")}
    assert (await alice.patch("/v1/users/me", json=other)).status_code == 403
    assert (await alice.patch("/v1/users/me", json=other | {"current_password": PASSWORD})).status_code == 200


async def test_an_account_without_an_address_can_be_sent_back(alice: Client) -> None:
    faulty = await alice.patch("/v1/users/me", json={"email": None, "current_password": PASSWORD})
    assert faults(faulty) == {"/email": "An e-mail address can be replaced, but not removed."}
    await User.update({User.email: None, User.email_key: None}, force=True)
    me = (await alice.get("/v1/users/me")).json()
    assert me["email"] is None
    assert (await alice.patch("/v1/users/me", json=me | {"bio": "New"})).json()["bio"] == "New"
