"""Templates that go on: versions and their changes, moving characters, deprecation, retirement, forks, usage."""

import asyncio
from typing import Any

import httpx
import pytest

from service.template_migrations import queries
from tests.conftest import FIGHTER, character, create, template

Client = httpx.AsyncClient

ELDER: dict[str, Any] = FIGHTER | {
    "required": ["strength", "race", "age"],
    "properties": {
        "strength": {"type": "integer", "minimum": 1, "maximum": 10, "default": 10, "title": "Strength"},
        "race": FIGHTER["properties"]["race"],
        "motto": FIGHTER["properties"]["motto"],
        "age": {"type": "integer", "default": 300},
    },
}


async def _publish(member: Client, template_id: str, schema: dict[str, Any], **more: Any) -> int:
    """A new published version's number."""
    made = await create(member, f"/v1/templates/{template_id}/versions", attribute_schema=schema, **more)
    path = f"/v1/templates/{template_id}/versions/{made['number']}/publication"
    assert (await member.put(path)).status_code == 200
    return int(made["number"])


async def _move(member: Client, template_id: str, number: int, **parameters: Any) -> Any:
    path = f"/v1/templates/{template_id}/versions/{number}/migration"
    answer = await member.post(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _get(member: Client, path: str) -> Any:
    answer = await member.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _versions(member: Client, template_id: str) -> Any:
    return (await _get(member, f"/v1/templates/{template_id}/usage"))["versions"]


async def test_each_character_has_its_outcome(alice: Client) -> None:
    rules = await template(alice)
    weak = await character(alice, name="Weak", template=rules["id"], attributes={"strength": 3})
    strong = await character(alice, name="Strong", template=rules["id"], attributes={"strength": 15})
    free = await character(alice, name="Free")
    await _publish(alice, rules["id"], ELDER)
    new = await character(alice, name="New", template=rules["id"])

    moved = await _move(alice, rules["id"], 2)
    problem = {"detail": "15 is greater than the maximum of 10.", "pointer": "/attributes/strength"}
    common = {"before": 1, "filled": ["/attributes/age"]}
    assert moved == {
        "items": [
            common | {"id": weak["id"], "name": "Weak", "outcome": "moved", "problems": []},
            common | {"id": strong["id"], "name": "Strong", "outcome": "invalid", "problems": [problem]},
        ],
        "next_cursor": None,
    }
    after = await _get(alice, f"/v1/characters/{weak['id']}")
    assert after["attributes"] == weak["attributes"] | {"age": 300}
    assert (after["template"]["version"], after["version"]) == (2, 2)
    for untouched in (strong, free, new):
        assert await _get(alice, f"/v1/characters/{untouched['id']}") == untouched
    assert (await _get(alice, f"/v1/characters/{strong['id']}/validation"))["state"] == "invalid"
    assert await _versions(alice, rules["id"]) == {"1": 1, "2": 2}


async def test_a_migration_is_a_revision_and_can_be_undone(alice: Client) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"])
    await _publish(alice, rules["id"], ELDER)
    await _move(alice, rules["id"], 2)
    path = f"/v1/characters/{mira['id']}"
    assert (await _get(alice, f"{path}/revisions/2"))["changed"] == ["attributes", "template_version"]
    assert [item["outcome"] for item in (await _move(alice, rules["id"], 1))["items"]] == ["invalid"]
    back = (await alice.post(f"{path}/revisions/1/restorations")).json()
    assert (back["attributes"], back["template"]) == (mira["attributes"], mira["template"])


async def test_a_dry_run_reports_the_same_and_commits_nothing(alice: Client) -> None:
    rules = await template(alice)
    before = [
        await character(alice, name=f"Fighter {strength}", template=rules["id"], attributes={"strength": strength})
        for strength in (5, 10, 15)
    ]
    await _publish(alice, rules["id"], ELDER)
    preview = await _move(alice, rules["id"], 2, dry_run="true")
    for one in before:
        assert await _get(alice, f"/v1/characters/{one['id']}") == one
        assert len((await _get(alice, f"/v1/characters/{one['id']}/revisions"))["items"]) == 1
    assert await _versions(alice, rules["id"]) == {"1": 3}
    assert await _move(alice, rules["id"], 2) == preview
    assert [item["outcome"] for item in preview["items"]] == ["moved", "moved", "invalid"]


async def test_a_migration_continues_from_the_cursor(alice: Client) -> None:
    rules = await template(alice)
    strengths = [5, 15, 6, 7, 15]
    ids = [
        (await character(alice, template=rules["id"], attributes={"strength": strength}))["id"]
        for strength in strengths
    ]
    await _publish(alice, rules["id"], ELDER)
    seen, cursor = [], {}
    while True:
        page = await _move(alice, rules["id"], 2, limit=2, **cursor)
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids
    assert [item["id"] for item in (await _move(alice, rules["id"], 2))["items"]] == [ids[1], ids[4]]
    path = f"/v1/templates/{rules['id']}/versions/1/migration"
    assert (await alice.post(path, params={"limit": 2} | cursor)).status_code == 400


async def test_only_the_callers_characters_are_migrated(alice: Client, charlie: Client, stranger: Client) -> None:
    rules = await template(alice, visibility="public")
    hers = await character(alice, template=rules["id"], visibility="public")
    his = await character(charlie, template=rules["id"])
    await _publish(alice, rules["id"], ELDER)
    assert [item["id"] for item in (await _move(charlie, rules["id"], 2))["items"]] == [his["id"]]
    assert await _get(alice, f"/v1/characters/{hers['id']}") == hers
    path = f"/v1/templates/{rules['id']}/versions/2/migration"
    assert (await stranger.post(path)).status_code == 401
    assert (await alice.patch(f"/v1/templates/{rules['id']}", json={"visibility": "private"})).status_code == 200
    assert (await charlie.post(path)).status_code == 404


async def test_no_character_is_migrated_to_a_draft(alice: Client) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"])
    draft = await create(alice, f"/v1/templates/{rules['id']}/versions", attribute_schema=ELDER)
    assert draft["state"] == "draft"
    path = f"/v1/templates/{rules['id']}/versions"
    assert (await alice.post(f"{path}/2/migration")).status_code == 404
    assert (await alice.post(f"{path}/2/migration", params={"dry_run": "true"})).status_code == 404
    assert (await alice.post(f"{path}/3/migration")).status_code == 404
    for refused in (
        await alice.patch(f"/v1/characters/{mira['id']}", json={"template_version": 2}),
        await alice.post("/v1/characters", json={"name": "Otto", "template": rules["id"], "template_version": 2}),
    ):
        assert refused.status_code == 404
    assert await _get(alice, f"/v1/characters/{mira['id']}") == mira


async def test_characters_in_the_trash_are_not_migrated(alice: Client) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"])
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 204
    await _publish(alice, rules["id"], ELDER)
    assert (await _move(alice, rules["id"], 2))["items"] == []
    back = await create(alice, f"/v1/trash/{mira['id']}/restorations")
    assert back["template"]["version"] == 1


async def test_edits_during_a_migration_are_never_half_applied(alice: Client) -> None:
    rules = await template(alice)
    ids = [(await character(alice, template=rules["id"], attributes={"strength": 5}))["id"] for _ in range(20)]
    await _publish(alice, rules["id"], ELDER)

    async def edit(character_id: str, strength: int) -> None:
        path = f"/v1/characters/{character_id}"
        for change in ({"attributes": {"strength": strength}}, {"attributes": {"motto": "On!"}}):
            answer = await alice.patch(path, json=change)
            assert answer.status_code in (200, 422), answer.text

    edits = [edit(character_id, 8 + index % 5) for index, character_id in enumerate(ids)]
    moves = [_move(alice, rules["id"], 2) for _ in range(3)]
    await asyncio.gather(*edits[:10], *moves, *edits[10:])
    for character_id in ids:
        found = await _get(alice, f"/v1/characters/{character_id}")
        assert ("age" in found["attributes"]) == (found["template"]["version"] == 2)
        assert found["template"]["version"] == 1 or found["attributes"]["strength"] <= 10
        assert found["attributes"]["motto"] == "On!"
        history = (await _get(alice, f"/v1/characters/{character_id}/revisions"))["items"]
        assert [item["number"] for item in history] == list(range(found["version"], 0, -1))
        assert sum("template_version" in item["changed"] for item in history) == found["template"]["version"] - 1


async def test_a_patch_migrates_one_character_with_its_attributes(alice: Client) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"], attributes={"strength": 15})
    await _publish(alice, rules["id"], ELDER)
    path = f"/v1/characters/{mira['id']}"
    refused = await alice.patch(path, json={"template_version": 2, "attributes": {"age": 7}})
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/attributes/strength"]
    assert await _get(alice, path) == mira

    moved = await alice.patch(path, json={"template_version": 2, "attributes": {"strength": 9, "age": 7}})
    assert moved.status_code == 200
    assert moved.json()["attributes"] == {"strength": 9, "race": "human", "age": 7}
    assert moved.json()["template"] == {"id": rules["id"], "version": 2}
    assert moved.json()["version"] == 2
    newest = await alice.patch(path, json={"template_version": None, "attributes": {"age": 8}})
    assert newest.json()["template"]["version"] == 2


async def test_a_patch_changes_or_removes_the_template(alice: Client, charlie: Client) -> None:
    rules = await template(alice)
    other = await template(alice, name="Elder", attribute_schema=ELDER)
    secret = await template(charlie)
    mira = await character(alice, template=rules["id"])
    path = f"/v1/characters/{mira['id']}"
    for hidden in (secret["id"], "01890000-0000-7000-8000-000000000000"):
        assert (await alice.patch(path, json={"template": hidden})).status_code == 404
    assert (await alice.patch(path, json={"template": None, "template_version": 1})).status_code == 422
    assert (await alice.patch(path, json={"template_version": 9})).status_code == 404
    assert await _get(alice, path) == mira
    changed = (await alice.patch(path, json={"template": other["id"]})).json()
    assert changed["template"] == {"id": other["id"], "version": 1}
    assert changed["attributes"]["age"] == 300
    freed = (await alice.patch(path, json={"template": None, "attributes": {"anything": [1]}})).json()
    assert freed["template"] is None
    assert freed["attributes"] == changed["attributes"] | {"anything": [1]}


async def test_the_changes_of_a_version(alice: Client, charlie: Client) -> None:
    rules = await template(alice, visibility="public")
    path = f"/v1/templates/{rules['id']}/versions"
    first = await _get(charlie, f"{path}/1/changes")
    assert (first["before"], first["after"]) == (None, 1)
    added = {change["pointer"] for change in first["changes"] if change["change"] == "added"}
    assert added == {"/attributes/strength", "/attributes/race", "/attributes/motto"}

    await create(alice, path, attribute_schema=ELDER)
    assert (await charlie.get(f"{path}/2/changes")).status_code == 404
    second = await _get(alice, f"{path}/2/changes")
    assert (second["before"], second["after"]) == (1, 2)
    assert second["changes"] == [
        {
            "pointer": "/attributes/strength", "change": "narrowed", "kinds": ["narrowed"],
            "detail": second["changes"][0]["detail"],
        },
        {
            "pointer": "/attributes/age", "change": "added", "kinds": ["added", "required", "widened"],
            "detail": "Is new. No value was accepted before. Is required now.",
        },
    ]  # fmt: skip
    assert (await alice.put(f"{path}/2/publication")).status_code == 200
    assert await _get(charlie, f"{path}/2/changes") == second
    assert (await charlie.get(f"{path}/3/changes")).status_code == 404


async def test_a_published_version_never_changes(alice: Client) -> None:
    rules = await template(alice)
    number = await _publish(alice, rules["id"], ELDER, prompt="{name}, {age}")
    path = f"/v1/templates/{rules['id']}/versions/{number}"
    before = await _get(alice, path)
    assert (await alice.put(f"{path}/publication")).json() == before
    for method in ("PUT", "PATCH", "DELETE"):
        assert (await alice.request(method, path, json={})).status_code == 405
    assert await _get(alice, path) == before


async def test_a_deprecated_version_is_not_the_newest(alice: Client, charlie: Client) -> None:
    rules = await template(alice, visibility="public")
    path = f"/v1/templates/{rules['id']}"
    await _publish(alice, rules["id"], ELDER)
    assert (await _get(alice, path))["newest_version"] == 2
    assert (await charlie.put(f"{path}/versions/2/deprecation")).status_code == 403
    deprecated = await alice.put(f"{path}/versions/2/deprecation")
    assert deprecated.json()["state"] == "deprecated"
    assert (await alice.put(f"{path}/versions/2/deprecation")).json() == deprecated.json()

    fallen = await _get(charlie, path)
    assert (fallen["newest_version"], fallen["attribute_schema"]) == (1, FIGHTER)
    assert (await character(charlie, template=rules["id"]))["template"]["version"] == 1
    assert (await character(charlie, template=rules["id"], template_version=2))["template"]["version"] == 2
    last = await alice.put(f"{path}/versions/1/deprecation")
    assert last.status_code == 409
    await create(alice, f"{path}/versions", attribute_schema=FIGHTER)
    assert (await alice.put(f"{path}/versions/3/deprecation")).status_code == 409
    assert (await alice.put(f"{path}/versions/1/deprecation")).status_code == 409
    assert (await alice.put(f"{path}/versions/3/publication")).status_code == 200
    assert (await alice.put(f"{path}/versions/1/deprecation")).status_code == 200
    assert (await _get(charlie, path))["newest_version"] == 3


async def test_an_older_draft_published_late_is_not_the_newest(alice: Client) -> None:
    rules = await template(alice)
    path = f"/v1/templates/{rules['id']}"
    for _ in range(2):
        await create(alice, f"{path}/versions", attribute_schema=ELDER)
    for number in (3, 2):
        assert (await alice.put(f"{path}/versions/{number}/publication")).status_code == 200
        assert (await _get(alice, path))["newest_version"] == 3


async def test_a_retired_template_applies_to_its_characters_but_not_to_new_ones(alice: Client, charlie: Client) -> None:
    rules = await template(alice, visibility="public")
    path = f"/v1/templates/{rules['id']}"
    mira = await character(charlie, template=rules["id"])
    vera = await character(charlie, template=rules["id"])
    await _publish(alice, rules["id"], ELDER)
    assert (await alice.delete(path)).status_code == 204
    assert (await _get(charlie, path))["retired_at"] is not None
    refused = await charlie.post("/v1/characters", json={"name": "Otto", "template": rules["id"]})
    assert refused.status_code == 409
    assert (await alice.post(f"{path}/versions", json={"attribute_schema": FIGHTER})).status_code == 409

    character_path = f"/v1/characters/{mira['id']}"
    assert (await charlie.patch(character_path, json={"attributes": {"strength": 4}})).status_code == 200
    assert (await charlie.patch(character_path, json={"attributes": {"strength": 40}})).status_code == 422
    assert (await _get(charlie, f"{character_path}/validation"))["state"] == "stale"
    copy = await create(charlie, f"{character_path}/copies")
    assert copy["template"] is None
    assert (await charlie.patch(f"/v1/characters/{vera['id']}", json={"template_version": 2})).status_code == 200
    assert [item["outcome"] for item in (await _move(charlie, rules["id"], 2))["items"]] == ["moved"]


async def test_a_fork_names_its_original(alice: Client, charlie: Client) -> None:
    rules = await template(alice, visibility="public", prompt="{name}, {race}", tags=["war"], style="fantasy")
    await _publish(alice, rules["id"], ELDER)
    await create(alice, f"/v1/templates/{rules['id']}/versions", attribute_schema=FIGHTER)
    fork = await create(charlie, f"/v1/templates/{rules['id']}/copies")
    assert fork["forked_from"] == rules["id"]
    assert (fork["visibility"], fork["newest_version"], fork["owner"]["username"]) == ("private", 1, "charlie")
    assert (fork["attribute_schema"], fork["prompt"]) == (ELDER, "{name}, {race}")
    assert (fork["tags"], fork["style"]) == (["war"], "fantasy")
    assert (await alice.get(f"/v1/templates/{fork['id']}")).status_code == 404
    await _publish(charlie, fork["id"], FIGHTER)
    assert (await _get(alice, f"/v1/templates/{rules['id']}"))["newest_version"] == 2
    secret = await template(alice)
    assert (await charlie.post(f"/v1/templates/{secret['id']}/copies", json={})).status_code == 404


async def test_usage_counts_characters_that_the_caller_may_see(
    alice: Client, charlie: Client, stranger: Client
) -> None:
    rules = await template(alice, visibility="public")
    await _publish(alice, rules["id"], FIGHTER)
    for visibility in ("private", "unlisted", "public"):
        await character(alice, template=rules["id"], visibility=visibility)
        await character(charlie, template=rules["id"], template_version=1, visibility=visibility)
    path = f"/v1/templates/{rules['id']}/usage"
    assert await _get(alice, path) == {"characters": 4, "versions": {"1": 1, "2": 3}}
    assert await _get(charlie, path) == {"characters": 4, "versions": {"1": 3, "2": 1}}
    assert await _get(stranger, path) == {"characters": 2, "versions": {"1": 1, "2": 1}}
    assert (await alice.patch(f"/v1/templates/{rules['id']}", json={"visibility": "private"})).status_code == 200
    assert (await charlie.get(path)).status_code == 404


async def test_usage_counts_so_many_characters_at_most(
    alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_COUNTED", 3)
    rules = await template(alice, visibility="public")
    for member in (alice, charlie):
        for _ in range(2):
            await character(member, template=rules["id"], visibility="public")
    path = f"/v1/templates/{rules['id']}/usage"
    assert (await _get(alice, path))["characters"] == 3
    monkeypatch.setattr(queries, "MAX_COUNTED", 4)
    assert (await _get(alice, path))["characters"] == 4


@pytest.mark.parametrize("limit", [0, 101])
async def test_limits_of_a_migration(alice: Client, limit: int) -> None:
    rules = await template(alice)
    path = f"/v1/templates/{rules['id']}/versions/1/migration"
    assert (await alice.post(path, params={"limit": limit})).status_code == 400
