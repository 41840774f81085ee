"""Templates: creating, reading, updating and retiring them."""

from typing import Any

import httpx
import pytest

from service.templates.tables import Template, TemplateVersion
from tests.conftest import FIGHTER, character, faults, template

Client = httpx.AsyncClient

TEMPLATES = "/v1/templates"
READ_ONLY = "Is read-only: send it as it is now, or leave it out."
NOWHERE = "0199a0a0-0000-7000-8000-000000000000"


async def test_create_returns_the_same_bytes_as_get(alice: Client) -> None:
    body = {"name": "Fighter", "prompt": "{name}, strength {strength}", "attribute_schema": FIGHTER, "tags": ["war"]}
    made = await alice.post(TEMPLATES, json=body)
    assert made.status_code == 201
    read = await alice.get(made.headers["location"])
    assert read.content == made.content
    assert read.headers["etag"] == made.headers["etag"] == f'"{made.json()["id"]}-1"'
    assert {name: made.json()[name] for name in body} == body
    assert made.json()["created_at"] == made.json()["updated_at"]


async def test_only_the_name_is_required(alice: Client) -> None:
    made = await template(alice, attribute_schema={"type": "object"})
    assert (made["visibility"], made["newest_version"], made["version"]) == ("private", 1, 1)
    assert (made["attribute_schema"], made["prompt"], made["owner"]["username"]) == ({"type": "object"}, "", "alice")


async def test_the_order_of_properties_is_kept(alice: Client) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in ("zeal", "age", "mood")}}
    made = await template(alice, attribute_schema=schema)
    assert list(made["attribute_schema"]["properties"]) == ["zeal", "age", "mood"]


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        ({"name": "", "visibility": "all", "owner": NOWHERE}, {"/name", "/visibility", "/owner"}),
        ({"description": "x" * 10_001, "tags": ["x"] * 201}, {"/description", "/tags"}),
        ({"style": "oil", "tags": ["a\0"]}, {"/style", "/tags/0"}),
        ({"prompt": "x" * 4_001}, {"/prompt"}),
        ({"prompt": "{wings}"}, {"/prompt"}),
        ({"attribute_schema": []}, {"/attribute_schema"}),
        ({"attribute_schema": {}}, {"/attribute_schema/type"}),
        ({"attribute_schema": {"type": "string"}}, {"/attribute_schema/type"}),
        ({"attribute_schema": {"type": "object", "$ref": "file:///etc/passwd"}}, {"/attribute_schema/$ref"}),
        (
            {
                "attribute_schema": {
                    "type": "object",
                    "$id": "https://example.org",
                    "$defs": {},
                    "properties": {"a": {"$ref": "http://127.0.0.1/"}, "b": {"type": "null"}, "c": {"anyOf": []}},
                }
            },
            {
                "/attribute_schema/$id",
                "/attribute_schema/$defs",
                "/attribute_schema/properties/a/$ref",
                "/attribute_schema/properties/b/type",
                "/attribute_schema/properties/c/anyOf",
            },
        ),
        (
            {"attribute_schema": {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}},
            {"/attribute_schema/properties/a/default"},
        ),
        (
            {"attribute_schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)"}}}},
            {"/attribute_schema/properties/a/pattern"},
        ),
        ({"attribute_schema": {"type": "object", "title": "x" * 65_536}}, {"/attribute_schema"}),
    ],
)
async def test_create_refuses_invalid_bodies(alice: Client, given: dict[str, Any], pointers: set[str]) -> None:
    answer = await alice.post(TEMPLATES, json={"name": "Fighter"} | given)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/validation"
    assert faults(answer).keys() == pointers
    assert (await alice.get(TEMPLATES)).json()["items"] == []


async def test_a_patch_changes_the_description_of_a_template(alice: Client) -> None:
    made = await template(alice, description="Old", style="anime", tags=["a"])
    path = f"{TEMPLATES}/{made['id']}"
    changed = (await alice.patch(path, json={"name": "Brawler", "style": None, "tags": None})).json()
    assert (changed["name"], changed["description"], changed["style"], changed["tags"]) == ("Brawler", "Old", None, [])
    assert (changed["version"], changed["attribute_schema"]) == (2, FIGHTER)
    assert changed == (await alice.get(path)).json()


@pytest.mark.parametrize("rule", [{"attribute_schema": {"type": "object"}}, {"prompt": "new"}, {"newest_version": 2}])
async def test_a_patch_cannot_change_prompt_or_schema(alice: Client, rule: dict[str, Any]) -> None:
    made = await template(alice)
    answer = await alice.patch(f"{TEMPLATES}/{made['id']}", json=rule)
    assert (answer.status_code, faults(answer)) == (422, {f"/{name}": READ_ONLY for name in rule})


async def test_delete_retires_it_and_keeps_its_characters(alice: Client) -> None:
    made = await template(alice)
    mira = await character(alice, template=made["id"])
    path = f"{TEMPLATES}/{made['id']}"
    assert (await alice.delete(path)).status_code == 204
    retired = (await alice.get(path)).json()
    assert retired["retired_at"] is not None
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json() == mira
    assert (await alice.delete(path)).status_code == 204
    assert (await alice.get(path)).json() == retired


async def test_platform_templates_have_no_owner(alice: Client, stranger: Client) -> None:
    made = await template(alice, visibility="public")
    await Template.update({Template.owner: None}, force=True)
    path = f"{TEMPLATES}/{made['id']}"
    assert (await stranger.get(path)).json()["owner"] is None
    assert (await alice.patch(path, json={"name": "Mine"})).status_code == 403
    assert (await alice.get(TEMPLATES)).json()["items"][0]["id"] == made["id"]


async def test_a_refused_template_leaves_nothing_behind(alice: Client) -> None:
    await alice.post(TEMPLATES, json={"name": "x", "attribute_schema": {"type": "object", "$ref": "#"}})
    assert await TemplateVersion.count() == 0


@pytest.mark.parametrize("unknown", [NOWHERE, "1", "%00", "a" * 4_000, f"{NOWHERE}%0A"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_unknown_id_is_not_found(alice: Client, method: str, unknown: str) -> None:
    body = {"json": {}} if method == "PATCH" else {}
    assert (await alice.request(method, f"{TEMPLATES}/{unknown}", **body)).status_code == 404
