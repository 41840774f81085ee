"""Versions of templates: drafts, publication, deprecation."""

from typing import Any

import httpx
import pytest

from service.errors import NotFound
from service.identifiers import uuid7
from service.templates.versions.queries import get_rules
from tests.conftest import FIGHTER, character, create, faults, template

Client = httpx.AsyncClient

KNIGHT = {"type": "object", "properties": {"horse": {"type": "string", "default": "Grey"}}}


def versions(of: Any, *path: Any) -> str:
    return "/".join(["/v1/templates", of["id"], "versions", *map(str, path)])


@pytest.fixture
async def fighter(alice: Client) -> Any:
    return await template(alice, visibility="public")


async def draft(alice: Client, fighter: Any, **given: Any) -> Any:
    return await create(alice, versions(fighter), **{"attribute_schema": KNIGHT} | given)


async def states(member: Client, fighter: Any) -> list[str]:
    return [version["state"] for version in (await member.get(versions(fighter))).json()["items"]]


async def test_a_draft_is_visible_to_its_owner_only(alice: Client, charlie: Client, fighter: Any) -> None:
    made = await alice.post(versions(fighter), json={"attribute_schema": KNIGHT, "prompt": "{horse}"})
    assert made.status_code == 201
    assert made.headers["location"] == versions(fighter, 2)
    assert (await alice.get(versions(fighter, 2))).content == made.content
    assert (made.json()["number"], made.json()["state"], made.json()["published_at"]) == (2, "draft", None)
    assert await states(alice, fighter) == ["published", "draft"]
    assert await states(charlie, fighter) == ["published"]
    assert (await charlie.get(versions(fighter, 2))).status_code == 404
    assert (await charlie.get(versions(fighter, 2, "schema"))).status_code == 404


async def test_a_draft_is_not_used_until_it_is_published(alice: Client, fighter: Any) -> None:
    await draft(alice, fighter)
    assert (await alice.get(f"/v1/templates/{fighter['id']}")).json()["attribute_schema"] == FIGHTER
    published = await alice.put(versions(fighter, 2, "publication"))
    assert (published.status_code, published.json()["state"]) == (200, "published")
    read = (await alice.get(f"/v1/templates/{fighter['id']}")).json()
    assert (read["attribute_schema"], read["newest_version"], read["version"]) == (KNIGHT, 2, 2)


async def test_publishing_twice_changes_nothing(alice: Client, fighter: Any) -> None:
    await draft(alice, fighter)
    first = await alice.put(versions(fighter, 2, "publication"))
    assert (await alice.put(versions(fighter, 2, "publication"))).content == first.content


async def test_an_older_draft_never_becomes_the_newest(alice: Client, fighter: Any) -> None:
    await draft(alice, fighter)
    await draft(alice, fighter, attribute_schema={"type": "object"})
    await alice.put(versions(fighter, 3, "publication"))
    await alice.put(versions(fighter, 2, "publication"))
    assert (await alice.get(f"/v1/templates/{fighter['id']}")).json()["newest_version"] == 3


async def test_characters_keep_their_version(alice: Client, fighter: Any) -> None:
    before = await character(alice, template=fighter["id"])
    await draft(alice, fighter)
    await alice.put(versions(fighter, 2, "publication"))
    after = await character(alice, template=fighter["id"])
    assert (after["template"]["version"], after["attributes"]["horse"]) == (2, "Grey")
    change = await alice.patch(f"/v1/characters/{before['id']}", json={"attributes": {"horse": "Bay"}})
    assert (change.status_code, faults(change).keys()) == (422, {"/attributes/horse"})


async def test_new_characters_do_not_use_a_deprecated_version(alice: Client, fighter: Any) -> None:
    await draft(alice, fighter)
    await alice.put(versions(fighter, 2, "publication"))
    deprecated = await alice.put(versions(fighter, 2, "deprecation"))
    assert (deprecated.status_code, deprecated.json()["state"]) == (200, "deprecated")
    assert (await character(alice, template=fighter["id"]))["template"]["version"] == 1
    assert (await character(alice, template=fighter["id"], template_version=2))["template"]["version"] == 2


async def test_drafts_and_the_last_version_cannot_be_deprecated(alice: Client, fighter: Any) -> None:
    await draft(alice, fighter)
    for number in (1, 2):
        answer = await alice.put(versions(fighter, number, "deprecation"))
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert await states(alice, fighter) == ["published", "draft"]


async def test_a_retired_template_cannot_have_new_versions(alice: Client, fighter: Any) -> None:
    await alice.delete(f"/v1/templates/{fighter['id']}")
    assert (await alice.post(versions(fighter), json={"attribute_schema": KNIGHT})).status_code == 409


FOREVER, REVALIDATED, PRIVATE = "public, max-age=31536000, immutable", "public, no-cache", "no-cache"


@pytest.mark.parametrize(
    ("visibility", "number", "of_schema", "of_version"),
    [
        ("public", 1, FOREVER, REVALIDATED),
        ("public", 2, PRIVATE, PRIVATE),  # a draft
        ("unlisted", 1, PRIVATE, PRIVATE),
        ("private", 1, PRIVATE, PRIVATE),
    ],
)
async def test_shared_caches_may_keep_what_everyone_may_see(
    alice: Client, visibility: str, number: int, of_schema: str, of_version: str
) -> None:
    rules = await template(alice, visibility=visibility)
    await draft(alice, rules)
    for path, expected in ((("schema",), of_schema), ((), of_version)):
        answer = await alice.get(versions(rules, number, *path))
        assert (answer.status_code, answer.headers["cache-control"]) == (200, expected)
        assert ("Authorization" in answer.headers["vary"]) == (expected == PRIVATE)
        again = await alice.get(versions(rules, number, *path), headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, expected)


async def test_a_version_has_an_etag_for_each_of_its_states(alice: Client, stranger: Client, fighter: Any) -> None:
    made = await alice.post(versions(fighter), json={"attribute_schema": KNIGHT})
    schema = await alice.get(versions(fighter, 2, "schema"))
    written = [made] + [await alice.put(versions(fighter, 2, state)) for state in ("publication", "deprecation")]
    etags = [answer.headers["etag"] for answer in written]
    assert [tag[-3:] for tag in etags] == ['-1"', '-2"', '-3"']
    assert (await stranger.get(versions(fighter, 2))).headers["etag"] == etags[-1]
    later = await stranger.get(versions(fighter, 2, "schema"))
    assert (later.headers["etag"], later.content) == (schema.headers["etag"], schema.content)


async def test_the_schema_has_its_media_type(stranger: Client, fighter: Any) -> None:
    answer = await stranger.get(versions(fighter, 1, "schema"))
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == FIGHTER


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/attribute_schema"}),
        ({"attribute_schema": None, "number": 7}, {"/attribute_schema", "/number"}),
        (
            {"attribute_schema": {"type": "object", "allOf": [], "if": {}}},
            {"/attribute_schema/allOf", "/attribute_schema/if"},
        ),
        ({"attribute_schema": FIGHTER, "prompt": "{wings}"}, {"/prompt"}),
    ],
)
async def test_a_draft_with_faults_is_refused(
    alice: Client, fighter: Any, body: dict[str, Any], pointers: set[str]
) -> None:
    answer = await alice.post(versions(fighter), json=body)
    assert (answer.status_code, faults(answer).keys()) == (422, pointers)
    assert await states(alice, fighter) == ["published"]


@pytest.mark.parametrize(
    ("number", "status"), [(2, 404), ("x", 404), ("9" * 5_000, 404), (0, 400), (-1, 400), (2**31, 400), ("%00", 404)]
)
@pytest.mark.parametrize("path", ["", "/schema"])
async def test_an_unknown_number(alice: Client, fighter: Any, number: Any, status: int, path: str) -> None:
    answer = await alice.get(versions(fighter, number) + path)
    assert answer.status_code == status
    if status == 400:
        assert faults(answer).keys() == {"number"}


async def test_the_rules_of_a_version_that_was_just_deleted_are_not_found() -> None:
    with pytest.raises(NotFound):
        await get_rules(uuid7(), 1)


@pytest.mark.parametrize("state", ["publication", "deprecation"])
async def test_the_state_of_an_unknown_version_cannot_change(alice: Client, fighter: Any, state: str) -> None:
    assert (await alice.put(versions(fighter, 2, state))).status_code == 404


async def test_versions_have_pages_and_none_is_skipped_or_shown_twice(
    alice: Client, charlie: Client, fighter: Any
) -> None:
    for _ in range(4):
        await draft(alice, fighter)
    await alice.put(versions(fighter, 4, "publication"))
    for member, expected in ((alice, [1, 2, 3, 4, 5]), (charlie, [1, 4])):
        seen: list[int] = []
        cursor: dict[str, str] = {}
        for _ in range(10):
            answer = await member.get(versions(fighter), params={"limit": "2"} | cursor)
            assert len(answer.json()["items"]) <= 2
            seen += [version["number"] for version in answer.json()["items"]]
            if answer.json()["next_cursor"] is None:
                break
            assert answer.links["next"]["url"].startswith(versions(fighter))
            cursor = {"cursor": answer.json()["next_cursor"]}
        assert seen == expected


async def test_a_cursor_of_other_versions_is_refused(alice: Client, fighter: Any) -> None:
    await draft(alice, fighter)
    other = await template(alice)
    cursor = (await alice.get(versions(fighter), params={"limit": "1"})).json()["next_cursor"]
    answer = await alice.get(versions(other), params={"cursor": cursor})
    assert (answer.status_code, faults(answer).keys()) == (400, {"cursor"})
