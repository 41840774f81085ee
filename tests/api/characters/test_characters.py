"""Characters: making, reading, changing and deleting them."""

from typing import Any

import httpx
import pytest

from tests.conftest import FIGHTER, character, create, faults, public, template

Client = httpx.AsyncClient

CHARACTERS = "/v1/characters"
NOWHERE = "0199a0a0-0000-7000-8000-000000000000"
JSON = {"Content-Type": "application/json"}


async def test_create_returns_the_same_bytes_as_get(alice: Client) -> None:
    made = await alice.post(CHARACTERS, json={"name": "Mira", "tags": ["night"], "attributes": {"hp": 3}})
    assert made.status_code == 201
    read = await alice.get(made.headers["location"])
    assert read.content == made.content
    assert read.headers["etag"] == made.headers["etag"] == f'"{made.json()["id"]}-1"'


async def test_a_name_is_enough(alice: Client) -> None:
    made = await character(alice, name="Mira")
    del made["id"], made["created_at"], made["updated_at"], made["owner"]["id"]
    assert made == {
        "version": 1, "name": "Mira", "style": None, "tags": [], "visibility": "private",
        "owner": {"username": "alice"}, "template": None, "portrait": None, "description": "", "prompt": None,
        "attributes": {}, "extensions": {}, "forked_from": None,
    }  # fmt: skip


async def test_all_fields_are_stored(alice: Client) -> None:
    given = {
        "name": "Mira “Nachtfalter” 夜 🦋", "description": "Line\nline", "prompt": "{name}", "style": "anime",
        "tags": ["b", "a"], "visibility": "unlisted", "attributes": {"z": 1, "a": [None, 1.5, {"b": True}]},
        "extensions": {"x/y": {"z": [2**53 + 1, 10**30, 1e-7]}},
    }  # fmt: skip
    made = await character(alice, **given)
    assert {name: made[name] for name in given} == given


async def test_a_template_adds_defaults_and_pins_the_version(alice: Client) -> None:
    fighter = await template(alice)
    made = await character(alice, template=fighter["id"], attributes={"strength": 15})
    assert made["attributes"] == {"strength": 15, "race": "human"}
    assert made["template"] == {"id": fighter["id"], "version": 1}


async def test_all_violations_of_a_template_are_reported_at_once(alice: Client) -> None:
    fighter = await template(alice)
    wrong = {"strength": 30, "race": "orc", "wings": 2}
    answer = await alice.post(CHARACTERS, json={"name": "Mira", "template": fighter["id"], "attributes": wrong})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "The body has 3 faults."
    assert faults(answer).keys() == {"/attributes/strength", "/attributes/race", "/attributes/wings"}


async def test_a_version_can_be_chosen(alice: Client) -> None:
    fighter = await template(alice)
    path = f"/v1/templates/{fighter['id']}/versions"
    await create(alice, path, attribute_schema=FIGHTER)
    draft = await alice.post(CHARACTERS, json={"name": "Mira", "template": fighter["id"], "template_version": 2})
    assert (draft.status_code, faults(draft).keys()) == (404, {"/template_version"})
    await alice.put(f"{path}/2/publication")
    assert (await character(alice, template=fighter["id"]))["template"]["version"] == 2
    assert (await character(alice, template=fighter["id"], template_version=1))["template"]["version"] == 1


async def test_no_character_is_created_from_a_retired_template(alice: Client) -> None:
    fighter = await template(alice)
    before = await character(alice, template=fighter["id"])
    await alice.delete(f"/v1/templates/{fighter['id']}")
    answer = await alice.post(CHARACTERS, json={"name": "Late", "template": fighter["id"]})
    assert (answer.status_code, list(faults(answer))) == (409, ["/template"])
    change = {"attributes": {"strength": 3}}
    assert (await alice.patch(f"{CHARACTERS}/{before['id']}", json=change)).status_code == 200


async def test_an_unknown_template_is_refused(alice: Client, charlie: Client) -> None:
    secret = await template(alice)
    for unknown in (secret["id"], NOWHERE):
        answer = await charlie.post(CHARACTERS, json={"name": "Spy", "template": unknown})
        assert (answer.status_code, faults(answer)) == (404, {"/template": "Does not exist."})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": ""}, {"/name": "Must be at least 1 character."}),
        ({"name": "x" * 257}, {"/name": "Must be at most 256 characters."}),
        ({"name": "x" * 1_000_000}, {"/name": "Must be at most 256 characters."}),
        ({"name": None}, {"/name": "Must be a string, not null."}),
        ({"name": "two\nlines"}, {"/name": "Must not contain control characters."}),
        ({"name": "ends\n"}, {"/name": "Must not contain control characters."}),
        ({"name": "turned\u202e"}, {"/name": "Must not contain control characters."}),
        ({"description": "a\0b"}, {"/description": "Must not contain the NUL character."}),
        ({"description": "x" * 100_001}, {"/description": "Must be at most 100000 characters."}),
        ({"prompt": "x" * 4_001}, {"/prompt": "Must be at most 4000 characters."}),
        ({"tags": ["x"] * 201}, {"/tags": "Must have at most 200 items."}),
        ({"tags": ["x" * 101, ""]}, {
            "/tags/0": "Must be at most 100 characters.", "/tags/1": "Must be at least 1 character.",
        }),
        ({"visibility": "secret"}, {"/visibility": "Must be one of: private, unlisted, public."}),
        ({"attributes": []}, {"/attributes": "Must be an object or null, not a list."}),
        ({"attributes": {"big": 2**63}}, {
            "/attributes/big": "Must be between -9223372036854775808 and 9223372036854775807.",
        }),
        ({"attributes": {"big": -1e19}}, {
            "/attributes/big": "Must be between -9223372036854775808 and 9223372036854775807.",
        }),
        ({"attributes": {str(n): n for n in range(201)}}, {"/attributes": "Must have at most 200 members."}),
        ({"attributes": {"x": "x" * 65_536}}, {"/attributes": "Must be at most 64 KiB as JSON."}),
        ({"extensions": {"x": "x" * 262_144}}, {"/extensions": "Must be at most 256 KiB of JSON."}),
        ({"extensions": {"x": "\0"}}, {"/extensions/x": "Must not contain the NUL character."}),
        ({"extensions": {"a\0b": 1}}, {"/extensions": "Must not have the NUL character in a name."}),
        ({"template": "fighter"}, {"/template": "Is not a valid UUID."}),
        ({"template": NOWHERE, "template_version": 0}, {"/template_version": "Must be at least 1."}),
        ({"template_version": 1}, {"/template_version": "Needs a template."}),
        ({"owner": NOWHERE, "x/y~": 1}, {
            "/owner": "Is not a known field.", "/x~1y~0": "Is not a known field.",
        }),
        ({"name": 1, "tags": "x", "style": 7}, {
            "/name": "Must be a string, not an integer.", "/tags": "Must be a list or null, not a string.",
            "/style": "Must be one of: realistic, cartoon, anime, fantasy, cyberpunk, vintage, minimalist.",
        }),
    ],
)  # fmt: skip
async def test_create_refuses(alice: Client, given: dict[str, Any], expected: dict[str, str]) -> None:
    answer = await alice.post(CHARACTERS, json={"name": "Mira"} | given)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/validation"
    assert faults(answer) == expected
    assert (await alice.get(CHARACTERS)).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"name": NaN}', 400),
        (b'{"name": "\xff"}', 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"name": "a", "extensions": {"x": "\\udc00"}}', 400),
        (b"[" * 100_000, 400),
        (b'{"name": "a", "extensions": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400),
        (b'{"name": "a", "extensions": {"x": ' + b"[" * 63 + b"]" * 63 + b"}}", 400),
        (b'{"name": "a", "extensions": {"x": ' + b"[" * 62 + b"]" * 62 + b"}}", 201),
        (b'{"name": "a", "extensions": {"x": ' + b"9" * 5_000 + b"}}", 422),
        (b'{"name": "a", "attributes": {"x": ' + b"9" * 5_000 + b"}}", 422),
        (b'{"name": "a", "attributes": {"x": 1e400}}', 422),
        (b'{"name": "a", "template_version": ' + b"9" * 30 + b"}", 422),
        (b"null", 422),
        (b"[]", 422),
        (b'{"name": "a\\u0000"}', 422),
        (b'{"name": "' + b"a" * 1024 * 1024 + b'"}', 413),
        (b'{"name": "\\\\u0000 with its backslash escaped"}', 201),
    ],
)
async def test_unusual_bodies_are_never_an_internal_error(alice: Client, body: bytes, status: int) -> None:
    answer = await alice.post(CHARACTERS, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_only_json_is_read(alice: Client, media_type: str) -> None:
    answer = await alice.post(CHARACTERS, content=b'{"name": "Mira"}', headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


async def test_a_patch_changes_only_the_fields_it_contains(alice: Client) -> None:
    made = await character(alice, description="Old", tags=["a"], style="anime", extensions={"a": 1})
    path = f"{CHARACTERS}/{made['id']}"
    changed = (
        await alice.patch(path, json={"name": "New", "style": None, "tags": None, "extensions": {"b": 2}})
    ).json()
    assert (changed["name"], changed["description"], changed["style"]) == ("New", "Old", None)
    assert (changed["tags"], changed["extensions"], changed["version"]) == ([], {"b": 2}, 2)
    assert changed["updated_at"] > made["updated_at"]
    assert changed["created_at"] == made["created_at"]
    assert changed == (await alice.get(path)).json()


async def test_a_patch_that_changes_nothing_creates_no_version(alice: Client) -> None:
    made = await character(alice, attributes={"a": 1})
    for same in ({}, {"name": "Mira"}, {"attributes": {"a": 1, "b": None}}):
        assert (await alice.patch(f"{CHARACTERS}/{made['id']}", json=same)).json() == made


@pytest.mark.parametrize("is_bulk", [False, True])
async def test_an_attribute_that_is_null_in_a_creation_is_left_out(alice: Client, is_bulk: bool) -> None:
    """Within a list, null is a value."""
    body = {"name": "Mira", "attributes": {"role": None, "stats": {"hp": None, "wits": 3}, "notes": [None]}}
    if is_bulk:
        operations = [{"action": "create", "body": body}]
        (item,) = (await alice.post("/v1/characters/bulk", json={"operations": operations})).json()["items"]
        made = item["character"]
    else:
        made = (await alice.post("/v1/characters", json=body)).json()
    assert made["attributes"] == {"stats": {"wits": 3}, "notes": [None]}


async def test_an_attribute_that_is_null_in_a_creation_becomes_its_default(alice: Client) -> None:
    fighter = await template(alice)
    made = await character(alice, template=fighter["id"], attributes={"strength": None, "race": "elf", "motto": None})
    assert made["attributes"] == {"strength": 10, "race": "elf"}


async def test_attributes_are_merged_and_null_removes(alice: Client) -> None:
    made = await character(alice, attributes={"kept": 1, "gone": 2, "deep": {"kept": 3, "gone": 4}})
    patch = {"gone": None, "new": [1], "deep": {"gone": None}}
    changed = (await alice.patch(f"{CHARACTERS}/{made['id']}", json={"attributes": patch})).json()
    assert changed["attributes"] == {"kept": 1, "deep": {"kept": 3}, "new": [1]}


async def test_a_removed_attribute_gets_its_default(alice: Client) -> None:
    fighter = await template(alice)
    made = await character(alice, template=fighter["id"], attributes={"strength": 3, "motto": "On!"})
    path = f"{CHARACTERS}/{made['id']}"
    changed = (await alice.patch(path, json={"attributes": {"strength": None, "motto": None}})).json()
    assert changed["attributes"] == {"strength": 10, "race": "human"}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"name": None}, {"/name": "Must be a string, not null."}),
        ({"name": "ends\n"}, {"/name": "Must not contain control characters."}),
        ({"attributes": []}, {"/attributes": "Must be an object or null, not a list."}),
        ({"attributes": {"strength": 21}}, {"/attributes/strength": "21 is greater than the maximum of 20."}),
        ({"owner": None}, {"/owner": "Is read-only: send it as it is now, or leave it out."}),
        ({"visibility": "all", "tags": [1]}, {
            "/visibility": "Must be one of: private, unlisted, public.",
            "/tags/0": "Must be a string, not an integer.",
        }),
        ({"extensions": {"x": "x" * 262_144}}, {"/extensions": "Must be at most 256 KiB of JSON."}),
    ],
)  # fmt: skip
async def test_a_patch_refuses_and_changes_nothing(
    alice: Client, patch: dict[str, Any], expected: dict[str, str]
) -> None:
    made = await character(alice, template=(await template(alice))["id"])
    answer = await alice.patch(f"{CHARACTERS}/{made['id']}", json={"description": "new"} | patch)
    assert answer.status_code == 422, answer.text
    assert faults(answer) == expected
    assert (await alice.get(f"{CHARACTERS}/{made['id']}")).json() == made


async def test_a_deleted_character_is_not_found(alice: Client) -> None:
    made = await public(alice)
    path = f"{CHARACTERS}/{made['id']}"
    deleted = await alice.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (await alice.get(path), await alice.patch(path, json={}), await alice.delete(path)):
        assert answer.status_code == 404
    assert (await alice.get(CHARACTERS)).json()["items"] == []


@pytest.mark.parametrize("unknown", [NOWHERE, "1", "%00", "%0A", "null", "a" * 4_000, f"{NOWHERE}%00", "%F0%9F", "-1"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_unknown_id_is_not_found(alice: Client, method: str, unknown: str) -> None:
    body = {"json": {}} if method == "PATCH" else {}
    answer = await alice.request(method, f"{CHARACTERS}/{unknown}", **body)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_faults_of_fields_and_of_attributes_are_reported_together(alice: Client) -> None:
    rules = await template(alice)
    broken = {"name": "x" * 257, "attributes": {"strength": 30}, "extensions": {"x": "x" * 262_144}}
    expected = {
        "/name": "Must be at most 256 characters.",
        "/attributes/strength": "30 is greater than the maximum of 20.",
        "/extensions": "Must be at most 256 KiB of JSON.",
    }
    answer = await alice.post("/v1/characters", json=broken | {"template": rules["id"]})
    assert (answer.status_code, faults(answer)) == (422, expected)

    made = await character(alice, template=rules["id"])
    answer = await alice.patch(f"/v1/characters/{made['id']}", json=broken)
    assert (answer.status_code, faults(answer)) == (422, expected)


async def test_extensions_are_at_most_256_kib_of_json(alice: Client) -> None:
    for more, status in ((0, 201), (1, 422)):
        extensions = {"x": "x" * (256 * 1024 - len('{"x":""}') + more)}
        answer = await alice.post("/v1/characters", json={"name": "Mira", "extensions": extensions})
        assert answer.status_code == status


@pytest.mark.parametrize("visibility", ["private", "public"])
async def test_faults_reveal_nothing_about_characters_of_others(
    alice: Client, charlie: Client, visibility: str
) -> None:
    made = await character(alice, template=(await template(alice))["id"], visibility=visibility)
    answer = await charlie.patch(f"/v1/characters/{made['id']}", json={"name": "", "attributes": {"strength": 30}})
    assert (answer.status_code, faults(answer)) == ({"private": 404, "public": 403}[visibility], {})


async def test_a_copy_needs_no_body(alice: Client) -> None:
    for path in (f"/v1/characters/{(await character(alice))['id']}", f"/v1/templates/{(await template(alice))['id']}"):
        assert [(await alice.post(f"{path}/copies", **body)).status_code for body in ({}, {"json": {}})] == [201, 201]
        typed = {"Content-Type": "application/json"}
        assert (await alice.post(f"{path}/copies", headers=typed)).status_code == 201
        assert (await alice.post(f"{path}/copies", content=b"null", headers=typed)).status_code == 422
        refused = await alice.post(f"{path}/copies", json={"name": "Mira"})
        assert (refused.status_code, faults(refused)) == (422, {"/name": "Is not a known field."})
