"""Comparisons list each attribute once, with a pointer into a character."""

from typing import Any

import httpx
import pytest

from tests.conftest import character, create, template
from tests.support.cpu import less_than

Client = httpx.AsyncClient
WITS = {"type": "integer", "minimum": 1, "maximum": 20, "default": 10}
BAG = {"type": "array", "items": {"type": "object", "properties": {"weight": {"type": "integer", "maximum": 9}}}}

# The properties before and after (all are required after), and the rows: pointer, change, kinds.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str, list[str]]]]] = {
    "one limit": (
        {"wits": WITS}, {"wits": WITS | {"maximum": 12}},
        [("/attributes/wits", "narrowed", ["narrowed"])],
    ),
    "two limits and a default": (
        {"wits": WITS}, {"wits": WITS | {"minimum": 5, "maximum": 30, "default": 6}},
        [("/attributes/wits", "narrowed", ["narrowed", "widened", "default_changed"])],
    ),
    "a new attribute": (
        {"wits": WITS}, {"wits": WITS, "a/b": WITS},
        [("/attributes/a~1b", "added", ["added", "required", "widened"])],
    ),
    "a lost attribute": (
        {"wits": WITS, "luck": WITS}, {"wits": WITS},
        [("/attributes/luck", "removed", ["removed", "narrowed", "optional"])],
    ),
    "another type": (
        {"wits": WITS}, {"wits": {"type": "string"}},
        [("/attributes/wits", "retyped", ["retyped", "default_changed"])],
    ),
    "items of a list": (
        {"bag": BAG}, {"bag": BAG | {"maxItems": 3, "items": {"type": "object"}}},
        [
            ("/attributes/bag", "narrowed", ["narrowed"]),
            ("/attributes/bag/*/weight", "removed", ["removed", "widened"]),
        ],
    ),
    "nothing": ({"wits": WITS}, {"wits": WITS | {"title": "Wits"}}, []),
}  # fmt: skip


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": [*properties], "additionalProperties": False,
    }  # fmt: skip


async def test_many_required_names_are_compared_quickly(alice: Client) -> None:
    before, after = (
        {"type": "object", "required": [f"{letter}{number:x}" for number in range(4_800)]} for letter in "ab"
    )
    path = f"/v1/templates/{(await template(alice, attribute_schema=before))['id']}/versions"
    await create(alice, path, attribute_schema=after)
    with less_than(0.3):
        answer = (await alice.get(f"{path}/2/changes")).json()
    assert (len(answer["changes"]), answer["truncated"]) == (1_000, True)
    for _ in range(7):
        before, after = ({"type": "object", "properties": {"~" * 100: each}} for each in (before, after))
    await create(alice, path, attribute_schema=before)
    await create(alice, path, attribute_schema=after)
    answer = await alice.get(f"{path}/4/changes")
    assert answer.json()["truncated"]
    assert len(answer.content) < 500_000


@pytest.mark.parametrize("case", CHANGES)
async def test_each_attribute_that_changed_is_listed_once(alice: Client, case: str) -> None:
    before, after, expected = CHANGES[case]
    path = f"/v1/templates/{(await template(alice, attribute_schema=closed(before)))['id']}/versions"
    await create(alice, path, attribute_schema=closed(after))
    answer = (await alice.get(f"{path}/2/changes")).json()
    changes = answer["changes"]
    assert not answer["truncated"]
    assert [(each["pointer"], each["change"], each["kinds"]) for each in changes] == expected
    assert all(each["detail"].endswith(".") for each in changes)
    first = (await alice.get(f"{path}/1/changes")).json()["changes"]
    assert {each["pointer"].split("/")[1] for each in first} == {"attributes"}
    assert len({each["pointer"] for each in first}) == len(first)


async def test_a_version_is_compared_with_the_published_one_before_it(alice: Client, charlie: Client) -> None:
    made = await template(alice, attribute_schema=closed({"wits": WITS}), visibility="public")
    path = f"/v1/templates/{made['id']}/versions"
    for properties in ({"luck": WITS}, {"wits": WITS, "luck": WITS}):
        await create(alice, path, attribute_schema=closed(properties))
    compared = await alice.get(f"{path}/3/changes")
    assert (compared.json()["before"], [each["pointer"] for each in compared.json()["changes"]]) == (
        1,
        ["/attributes/luck"],
    )
    assert (await charlie.get(f"{path}/3/changes")).status_code == 404
    assert (await alice.put(f"{path}/3/publication")).status_code == 200
    assert (await charlie.get(f"{path}/3/changes")).json() == compared.json()


REVISIONS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "attributes": ({"wits": 1, "a/b": 2}, {"wits": 2, "a/b": None, "luck": 3}, ["a~1b", "luck", "wits"]),
    "a nested attribute": ({"stats": {"hp": 1, "mp": 2}}, {"stats": {"hp": 3}}, ["stats/hp"]),
    "a whole object": ({}, {"stats": {"hp": 1, "mp": 2}}, ["stats"]),
    "a list": ({"bag": [1, 2]}, {"bag": [2, 1, 3]}, ["bag"]),
}


@pytest.mark.parametrize("case", REVISIONS)
async def test_each_attribute_that_differs_between_revisions_is_listed_once(alice: Client, case: str) -> None:
    before, after, expected = REVISIONS[case]
    mira = await character(alice, attributes=before)
    path = f"/v1/characters/{mira['id']}"
    assert (await alice.patch(path, json={"attributes": after})).status_code == 200
    differences = (await alice.get(f"{path}/revisions/2/changes")).json()["differences"]
    assert [each["pointer"] for each in differences] == [f"/attributes/{name}" for name in expected]
