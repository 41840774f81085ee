"""A template's defaults make a character larger only within the bounds of attributes, on every way in."""

from typing import Any

import httpx

from tests.conftest import character, create, faults, template
from tests.support.cpu import less_than

Client = httpx.AsyncClient

SLOT = {"type": "object", "properties": {f"c{n}": {"type": "integer", "default": n} for n in range(150)}}
INVENTORY = {"type": "object", "properties": {"slots": {"type": "array", "items": SLOT}}}
FREE = {"type": "object", "properties": {"slots": {"type": "array"}}}
TOO_LARGE = {
    "/attributes": (
        "With the template's defaults, must hold at most 1,000 values, nested ones included, and 64 KiB as JSON."
    )
}
EMPTY_SLOTS = {"slots": [{}] * 990}  # 3 KB, which the defaults would make 148,500 values


async def _published(alice: Client, schema: dict[str, Any]) -> tuple[str, int]:
    """A template whose version 1 leaves slots free and whose version 2 has ``schema``."""
    made = await template(alice, attribute_schema=FREE)
    version = await create(alice, f"/v1/templates/{made['id']}/versions", attribute_schema=schema)
    path = f"/v1/templates/{made['id']}/versions/{version['number']}/publication"
    assert (await alice.put(path)).status_code == 200
    return made["id"], version["number"]


async def test_a_character_that_the_defaults_make_too_large_is_refused(alice: Client) -> None:
    rules, number = await _published(alice, INVENTORY)
    body = {"name": "Mira", "template": rules, "attributes": EMPTY_SLOTS}
    refused = await alice.post("/v1/characters", json=body)
    assert (refused.status_code, faults(refused)) == (422, TOO_LARGE)
    refused = await alice.post("/v1/characters", json=body | {"name": ""})
    assert faults(refused) == {"/name": faults(refused)["/name"]} | TOO_LARGE
    older = await character(alice, template=rules, template_version=1, attributes=EMPTY_SLOTS)
    assert older["attributes"] == EMPTY_SLOTS
    for change in ({"template_version": number}, {"template_version": number, "attributes": {"slots": [{}] * 7}}):
        refused = await alice.patch(f"/v1/characters/{older['id']}", json=change)
        assert (refused.status_code, faults(refused)) == (422, TOO_LARGE)


async def test_validation_and_migration_tell_that_the_defaults_make_it_too_large(alice: Client) -> None:
    rules, number = await _published(alice, INVENTORY)
    older = await character(alice, template=rules, template_version=1, attributes=EMPTY_SLOTS)
    small = await character(alice, template=rules, template_version=1, attributes={"slots": [{}]})
    problems = [{"pointer": pointer, "detail": detail} for pointer, detail in TOO_LARGE.items()]
    checked = (await alice.get(f"/v1/characters/{older['id']}/validation")).json()
    assert checked == {"state": "invalid", "version": number, "problems": problems}
    moves = (await alice.post(f"/v1/templates/{rules}/versions/{number}/migration")).json()
    assert {item["id"]: (item["outcome"], item["problems"]) for item in moves["items"]} == {
        older["id"]: ("invalid", problems),
        small["id"]: ("moved", []),
    }


async def test_a_template_is_refused_whose_defaults_no_item_can_hold(alice: Client) -> None:
    item = {"type": "object", "properties": {f"c{n}": {"default": [n] * 99} for n in range(11)}}
    schema = {"type": "object", "properties": {"slots": {"type": "array", "items": item}}}
    made = await template(alice)
    for path in ("/v1/templates", f"/v1/templates/{made['id']}/versions"):
        refused = await alice.post(path, json={"name": "Inventory", "attribute_schema": schema})
        assert refused.status_code == 422
        if path == "/v1/templates":
            assert list(faults(refused)) == ["/attribute_schema"]


async def test_a_bulk_of_hostile_characters_takes_half_a_second(alice: Client) -> None:
    pattern = {"type": "string", "pattern": "[ab]*a[ab]{890}c"}
    hostile: dict[str, tuple[Any, Any]] = {
        "defaults": (SLOT, [{}] * 990),
        "required": ({"type": "object", "required": [f"r{n}" for n in range(4_900)]}, [{}] * 990),
        "enum": ({"enum": ["x" * 300 + str(n) for n in range(199)]}, ["x" * 7] * 990),
        "pattern": (pattern, ["ab" * 30] * 990),
        "within the bounds": ({"type": "object", "properties": {"a": {"default": 1}}}, [{}] * 490),
    }
    for items, slots in hostile.values():
        schema = {"type": "object", "properties": {"slots": {"type": "array", "items": items}}}
        rules, number = await _published(alice, schema)
        older = await character(alice, template=rules, template_version=1, attributes={"slots": slots})
        change = {"action": "update", "id": older["id"], "body": {"template_version": number}}
        with less_than(0.5):
            answer = await alice.post("/v1/characters/bulk", json={"operations": [change] * 100})
        assert {item["status"] for item in answer.json()["items"]} in ({422}, {200})
