"""Forms of operators for relationships: the rules, the feed and the audit log are those of the API."""

import json
from typing import Any

import httpx
import pytest

from service.admin.roles import MODERATION
from tests.api.admin.test_forms import NOBODY, REASON, done, done_on, faults, last_entry
from tests.conftest import character, relationship

Client = httpx.AsyncClient

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def in_feed(member: Client, row: str) -> list[Any]:
    """The changes of a relationship: its version, or None when it was deleted."""
    changes = (await member.get("/v1/changes?kind=relationship")).json()["items"]
    return [change.get("relationship", {}).get("version") for change in changes if change["id"] == row]


async def test_a_relationship_is_added_edited_and_removed(operator: Client, alice: Client) -> None:
    mira, joss = await character(alice), await character(alice, name="Joss")
    ends = {"character": mira["id"], "target": joss["id"]}
    _, row = await done_on(operator, "add-a-relationship", **ends, type="child_of", attitude=40)
    assert await last_entry() == (
        "create_relationship",
        "relationship",
        row,
        {"character": mira["id"], "reason": REASON},
    )
    path = f"/v1/relationships/{row}"
    made = (await alice.get(path, params={"from": mira["id"]})).json()
    assert (made["type"], made["target"]["name"], made["attitude"]) == ("child_of", "Joss", 40)
    assert await in_feed(alice, row) == [1]
    again = await faults(operator, "add-a-relationship", **ends, type="parent_of")
    assert again == [("type", "The two characters already have a relationship of this type.")]

    # As stored, it is read from the side of Joss
    edit = {"relationship": row, "version": 1, "description": "Since the war.", "source_attitude": -5}
    assert await done(operator, "edit-a-relationship", **edit) == "The relationship of Joss and Mira is saved."
    fields = ["description", "source_attitude", "target_attitude"]
    assert await last_entry() == ("update_relationship", "relationship", row, {"fields": fields, "reason": REASON})
    after = (await alice.get(path, params={"from": joss["id"]})).json()
    assert (after["version"], after["description"]) == (2, "Since the war.")
    assert (after["attitude"], after["returned_attitude"]) == (-5, None)
    assert await in_feed(alice, row) == [2]
    stale = ("version", "It has changed: its version is 2. Open its page and the form again.")
    assert await faults(operator, "edit-a-relationship", **edit) == [stale]
    same = ("relationship", "Nothing differs from what is stored.")
    assert await faults(operator, "edit-a-relationship", **edit | {"version": 2}) == [same]

    removed = "The relationship of Joss and Mira is deleted."
    assert await done_on(operator, "remove-a-relationship", relationship=row) == (removed, joss["id"])
    detail = {"character": joss["id"], "target": mira["id"], "type": "parent_of", "reason": REASON}
    assert await last_entry() == ("delete_relationship", "relationship", row, detail)
    assert (await alice.get(path)).status_code == 404
    assert await in_feed(alice, row) == [None]
    [(field, _)] = await faults(operator, "remove-a-relationship", relationship=row)
    assert field == "relationship"


async def test_a_custom_relationship_has_labels(operator: Client, alice: Client) -> None:
    mira, joss = await character(alice), await character(alice, name="Joss")
    ends = {"character": mira["id"], "target": joss["id"]}
    custom = {**ends, "type": "custom", "label": "haunts", "inverse_label": "haunted by"}
    _, row = await done_on(operator, "add-a-relationship", **custom)
    edit = {"relationship": row, "version": 1, "label": "haunts", "inverse_label": ""}
    await done(operator, "edit-a-relationship", **edit)
    after = (await alice.get(f"/v1/relationships/{row}")).json()
    assert (after["label"], after["inverse_label"]) == ("haunts", "haunts")
    missing = ("label", "A custom type needs a label.")
    assert await faults(operator, "edit-a-relationship", **edit | {"version": 2, "label": ""}, confirm=False) == [
        missing
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"character": NOBODY}, "character"),
        ({"character": "Mira"}, "character"),
        ({"target": NOBODY}, "target"),
        ({"target": "charlie's"}, "target"),
        ({"target": "itself"}, "target"),
        ({"type": "cousin_of"}, "type"),
        ({"type": "custom"}, "label"),
        ({"label": "haunts"}, "label"),
        ({"attitude": 101}, "attitude"),
        ({"returned_attitude": "much"}, "returned_attitude"),
        ({"description": "x" * 100_001}, "description"),
        ({"reason": "no"}, "reason"),
    ],
)
async def test_a_faulty_relationship_names_its_field(
    operator: Client, alice: Client, charlie: Client, changes: dict[str, Any], field: str
) -> None:
    mira, joss = await character(alice), await character(alice, name="Joss")
    others = {"charlie's": (await character(charlie))["id"], "itself": mira["id"]}
    given = {"character": mira["id"], "target": joss["id"], "type": "parent_of"} | changes
    given["target"] = others.get(given["target"], given["target"])
    for confirm in (False, True):
        found = await faults(operator, "add-a-relationship", **given, confirm=confirm)
        assert [name for name, _ in found] == [field]
    assert (await alice.get(f"/v1/characters/{mira['id']}/relationships")).json()["items"] == []


async def test_a_relationship_in_the_trash_is_refused(operator: Client, alice: Client) -> None:
    mira, joss = await character(alice), await character(alice, name="Joss")
    row = (await relationship(alice, mira, joss))["id"]
    assert (await alice.delete(f"/v1/characters/{joss['id']}")).status_code == 204
    for form, more in [("edit-a-relationship", {"version": 1}), ("remove-a-relationship", {})]:
        assert await faults(operator, form, relationship=row, **more) == [("relationship", "Joss is in the trash.")]
        missing = ("relationship", "There is no such relationship.")
        assert await faults(operator, form, relationship=mira["id"], **more) == [missing]
    [(field, _)] = await faults(
        operator, "add-a-relationship", character=mira["id"], target=joss["id"], type="rival_of"
    )
    assert field == "target"


async def test_a_character_in_the_trash_is_deleted_for_good(operator: Client, alice: Client) -> None:
    mira = await character(alice)
    fault = ("character", "Mira is not in the trash.")
    assert await faults(operator, "delete-a-character-for-good", character=mira["id"]) == [fault]
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 204
    assert (
        await done(operator, "delete-a-character-for-good", character=mira["id"])
        == "Mira of alice is deleted for good."
    )
    assert await last_entry() == ("purge_character", "character", mira["id"], {"reason": REASON})
    assert (await alice.get("/v1/trash")).json()["items"] == []
    assert (await alice.post(f"/v1/trash/{mira['id']}/restorations")).status_code == 404
    [change] = [each for each in (await alice.get("/v1/changes")).json()["items"] if each["id"] == mira["id"]]
    assert "character" not in change, json.dumps(change)
    assert "delete-a-character-for-good" not in MODERATION
