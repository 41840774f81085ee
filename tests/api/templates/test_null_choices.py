"""Null removes an attribute, so a schema must not offer it as the value of one."""

from typing import Any

import httpx
import pytest

from tests.conftest import character, create, faults, template

Client = httpx.AsyncClient
CHOICES: list[tuple[dict[str, Any], set[str]]] = [
    ({"a": {"enum": [None, "x"]}}, {"a/enum/0"}),
    ({"a": {"type": "string", "enum": ["x", None]}}, {"a/enum/1"}),
    ({"a": {"const": None}}, {"a/const"}),
    ({"a": {"type": "object", "properties": {"b": {"enum": ["x", None]}}}}, {"a/properties/b/enum/1"}),
    ({"a": {"type": "array", "items": {"enum": [None, 1]}}}, set()),
    ({"a": {"enum": ["null", ""]}, "b": {"const": "x"}}, set()),
]


@pytest.mark.parametrize(("properties", "expected"), CHOICES)
async def test_null_is_no_choice_of_an_attribute(alice: Client, properties: dict[str, Any], expected: set[str]) -> None:
    schema = {"type": "object", "properties": properties}
    pointers = {f"/attribute_schema/properties/{each}" for each in expected}
    made = await template(alice)
    for path in ("/v1/templates", f"/v1/templates/{made['id']}/versions"):
        body = {"attribute_schema": schema} | ({"name": "a"} if path == "/v1/templates" else {})
        answer = await alice.post(path, json=body)
        assert (answer.status_code, faults(answer).keys()) == (422 if pointers else 201, pointers)


async def test_null_cannot_be_stored_in_an_object_but_in_a_list(alice: Client) -> None:
    rules = await create(alice, "/v1/templates", name="a", attribute_schema={"type": "object"})
    sent = {"a": None, "b": {"c": None, "d": 1}, "e": [None]}
    mira = await character(alice, template=rules["id"], attributes=sent)
    assert mira["attributes"] == {"b": {"d": 1}, "e": [None]}
    changed = await alice.patch(f"/v1/characters/{mira['id']}", json={"attributes": {"b": {"d": None, "f": 2}}})
    assert changed.json()["attributes"] == {"b": {"f": 2}, "e": [None]}
