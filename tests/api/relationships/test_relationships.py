"""Relationships: one row, read from both sides."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from service.relationships import queries
from service.relationships.tables import Relationship
from service.relationships.types import TYPES
from service.settings import settings
from tests.conftest import character, faults, public, relationship

Client = httpx.AsyncClient

NOWHERE = "0199a0a0-0000-7000-8000-000000000000"


def of(end: Any) -> str:
    return f"/v1/characters/{end['id']}/relationships"


@pytest.fixture
async def mira(alice: Client) -> Any:
    return await character(alice, name="Mira")


@pytest.fixture
async def sol(alice: Client) -> Any:
    return await character(alice, name="Sol")


def told(row: Any) -> tuple[str, str, str]:
    return row["source"]["name"], row["type"], row["target"]["name"]


async def test_create_returns_the_same_bytes_as_get(alice: Client, mira: Any, sol: Any) -> None:
    body = {"target": sol["id"], "type": "child_of", "attitude": -100, "returned_attitude": 100, "description": "Hm."}
    made = await alice.post(of(mira), json=body)
    assert made.status_code == 201
    read = await alice.get(made.headers["location"])
    assert read.content == made.content
    assert read.headers["etag"] == made.headers["etag"] == f'"{made.json()["id"]}-1"'


@pytest.mark.parametrize("type_name", sorted(TYPES.keys() - {"custom"}))
async def test_a_type_reads_as_its_inverse_from_the_other_side(
    alice: Client, mira: Any, sol: Any, type_name: str
) -> None:
    made = await relationship(alice, mira, sol, type=type_name, attitude=1, returned_attitude=2)
    kind, from_target = TYPES[type_name]
    inverse = kind.name if from_target else kind.inverse
    (own,) = (await alice.get(of(mira))).json()["items"]
    (other,) = (await alice.get(of(sol))).json()["items"]
    assert own == made
    assert told(own) == ("Mira", type_name, "Sol")
    assert told(other) == ("Sol", inverse, "Mira")
    assert (other["attitude"], other["returned_attitude"]) == (2, 1)
    assert await Relationship.count() == 1


async def test_a_custom_type_has_its_own_labels(alice: Client, mira: Any, sol: Any) -> None:
    words = {"type": "custom", "label": "haunts", "inverse_label": "haunted by"}
    made = await relationship(alice, mira, sol, **words)
    assert made["label"] == "haunts"
    other = await alice.get(f"/v1/relationships/{made['id']}?from={sol['id']}")
    assert (other.json()["label"], told(other.json())) == ("haunted by", ("Sol", "custom", "Mira"))


LABELS: list[tuple[str, dict[str, Any], tuple[str, str]]] = [  # the side, the change, and the labels of Mira and Sol
    ("mira", {"label": "hunts"}, ("hunts", "haunted by")),
    ("sol", {"label": "hunted by"}, ("haunts", "hunted by")),
    ("sol", {"inverse_label": "hunts"}, ("hunts", "haunted by")),
    ("mira", {"label": "hunts", "inverse_label": "hunted by"}, ("hunts", "hunted by")),
    ("mira", {"label": "equals", "inverse_label": None}, ("equals", "equals")),
    ("sol", {"inverse_label": None}, ("haunted by", "haunted by")),
    ("mira", {"attitude": 3}, ("haunts", "haunted by")),
]


@pytest.mark.parametrize(("side", "change", "expected"), LABELS)
async def test_labels_change_from_either_side(
    alice: Client, mira: Any, sol: Any, side: str, change: dict[str, Any], expected: tuple[str, str]
) -> None:
    made = await relationship(alice, mira, sol, type="custom", label="haunts", inverse_label="haunted by")
    path, sides = f"/v1/relationships/{made['id']}", {"mira": mira["id"], "sol": sol["id"]}
    before = (await alice.get("/v1/changes?kind=relationship")).json()["next_cursor"]
    answer = await alice.patch(f"{path}?from={sides[side]}", json=change, headers={"If-Match": f'"{made["id"]}-1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{made["id"]}-2"'), answer.text
    rows = [(await alice.get(f"{path}?from={sides[name]}")).json() for name in ("mira", "sol")]
    assert [(row["label"], row["inverse_label"]) for row in rows] == [expected, expected[::-1]]
    assert answer.json() in rows
    (changed,) = (await alice.get(f"/v1/changes?kind=relationship&after={before}")).json()["items"]
    assert {changed["relationship"]["label"], changed["relationship"]["inverse_label"]} == {*expected}
    (edge,) = (await alice.get(f"/v1/characters/{mira['id']}/graph")).json()["edges"]
    assert {edge["source"]: edge["label"], edge["target"]: edge["inverse_label"]} == {
        mira["id"]: expected[0], sol["id"]: expected[1],
    }  # fmt: skip


async def test_a_row_with_labels_is_sent_back_from_either_side(alice: Client, mira: Any, sol: Any) -> None:
    await relationship(alice, mira, sol, type="custom", label="haunts", inverse_label="haunted by")
    for end, label in ((sol, "A"), (mira, "B")):
        (row,) = (await alice.get(of(end))).json()["items"]
        answer = await alice.patch(f"/v1/relationships/{row['id']}", json=row | {"label": label})
        assert answer.json() == row | {
            "label": label, "version": row["version"] + 1, "updated_at": answer.json()["updated_at"],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("type_name", "change", "expected"),
    [
        ("custom", {"label": None}, (422, {"/label"})),
        ("custom", {"label": " "}, (422, {"/label"})),
        ("custom", {"inverse_label": "x" * 61}, (422, {"/inverse_label"})),
        ("custom", {"label": "loves"}, (409, {"/label"})),
        ("custom", {"inverse_label": "loves", "label": "loves"}, (409, {"/label", "/inverse_label"})),
        ("custom", {"inverse_label": None, "label": "loves"}, (409, {"/label", "/inverse_label"})),
        ("rival_of", {"label": "x"}, (422, {"/label"})),
        ("rival_of", {"label": "x", "inverse_label": "y"}, (422, {"/label", "/inverse_label"})),
    ],
)
async def test_labels_that_cannot_be(
    alice: Client, mira: Any, sol: Any, type_name: str, change: dict[str, Any], expected: tuple[int, set[str]]
) -> None:
    labels = {"label": "likes", "inverse_label": "loves"} if type_name == "custom" else {}
    made = await relationship(alice, mira, sol, type=type_name, **labels)
    await relationship(alice, sol, mira, type="custom", label="loves")
    answer = await alice.patch(f"/v1/relationships/{made['id']}?from={mira['id']}", json=change)
    assert (answer.status_code, faults(answer).keys()) == expected
    assert (await alice.get(f"/v1/relationships/{made['id']}?from={mira['id']}")).json() == made


async def test_a_relationship_that_exists_names_what_is_the_same(alice: Client, mira: Any, sol: Any) -> None:
    for given, pointer in (({"type": "rival_of"}, "/type"), ({"type": "custom", "label": "haunts"}, "/label")):
        await relationship(alice, mira, sol, **given)
        again = await alice.post(of(sol), json={"target": mira["id"], **given})
        assert (again.status_code, [*faults(again)]) == (409, [pointer])


@pytest.mark.parametrize("type_name", ["custom", "rival_of"])
async def test_null_labels_change_nothing_where_there_are_none(
    alice: Client, mira: Any, sol: Any, type_name: str
) -> None:
    labels = {"label": "likes"} if type_name == "custom" else {}
    made = await relationship(alice, mira, sol, type=type_name, **labels)
    body = {"inverse_label": None} | ({} if labels else {"label": None})
    answer = await alice.patch(f"/v1/relationships/{made['id']}?from={mira['id']}", json=body)
    assert (answer.json()["label"], answer.json()["inverse_label"]) == (made["label"], made["label"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "hates"}, {"/type"}),
        ({"type": None, "target": "x", "strength": 1}, {"/type", "/target", "/strength"}),
        ({"attitude": 101, "returned_attitude": -101}, {"/attitude", "/returned_attitude"}),
        ({"attitude": 1.5}, {"/attitude"}),
        ({"attitude": 10**30}, {"/attitude"}),
        ({"description": "\0"}, {"/description"}),
        ({"label": "x", "inverse_label": "y"}, {"/label", "/inverse_label"}),
        ({"type": "custom"}, {"/label"}),
        ({"type": "custom", "label": ""}, {"/label"}),
        ({"type": "custom", "label": "a\0"}, {"/label"}),
    ],
)
async def test_create_refuses(alice: Client, mira: Any, sol: Any, body: dict[str, Any], expected: set[str]) -> None:
    answer = await alice.post(of(mira), json={"target": sol["id"], "type": "parent_of"} | body)
    assert answer.status_code == 422, answer.text
    assert faults(answer).keys() == expected


async def test_a_character_has_no_relationship_with_itself(alice: Client, mira: Any) -> None:
    answer = await alice.post(of(mira), json={"target": mira["id"], "type": "sibling_of"})
    assert (answer.status_code, faults(answer)) == (422, {"/target": "Must be another character."})


async def test_both_characters_must_be_the_callers_own(alice: Client, charlie: Client, mira: Any) -> None:
    theirs = await public(charlie)
    for client, start, target in ((alice, mira, theirs), (alice, theirs, mira), (charlie, theirs, mira)):
        answer = await client.post(of(start), json={"target": target["id"], "type": "parent_of"})
        assert answer.status_code == 404
    assert (await alice.post(of(mira), json={"target": NOWHERE, "type": "parent_of"})).status_code == 404
    assert await Relationship.count() == 0


@pytest.mark.parametrize(
    ("first", "again"), [("parent_of", "child_of"), ("child_of", "parent_of"), ("friend_of", "friend_of")]
)
async def test_a_pair_has_each_type_once_from_either_side(
    alice: Client, mira: Any, sol: Any, first: str, again: str
) -> None:
    await relationship(alice, mira, sol, type=first)
    same = await alice.post(of(mira), json={"target": sol["id"], "type": first})
    mirrored = await alice.post(of(sol), json={"target": mira["id"], "type": again})
    assert (same.status_code, mirrored.status_code) == (409, 409)
    assert mirrored.json()["type"] == "/problems/conflict"
    assert list(faults(same)) == list(faults(mirrored)) == ["/type"]
    await relationship(alice, mira, sol, type="rival_of")


async def test_a_patch_reads_and_writes_from_the_named_side(alice: Client, mira: Any, sol: Any) -> None:
    made = await relationship(alice, mira, sol, attitude=1, returned_attitude=2)
    path = f"/v1/relationships/{made['id']}"
    changed = await alice.patch(f"{path}?from={sol['id']}", json={"attitude": -50, "description": "Feud"})
    assert (changed.json()["attitude"], changed.json()["returned_attitude"]) == (-50, 1)
    assert told(changed.json()) == ("Sol", "child_of", "Mira")
    back = (await alice.get(f"{path}?from={mira['id']}")).json()
    assert (back["attitude"], back["returned_attitude"], back["description"], back["version"]) == (1, -50, "Feud", 2)
    emptied = (await alice.patch(path, json={"description": None, "attitude": None})).json()
    assert (emptied["description"], emptied["attitude"], emptied["returned_attitude"]) == ("", None, -50)


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [({"type": "rival_of"}, "/type"), ({"target": NOWHERE}, "/target"), ({"attitude": "high"}, "/attitude")],
)
async def test_the_characters_and_the_type_cannot_change(
    alice: Client, mira: Any, sol: Any, patch: Any, pointer: str
) -> None:
    made = await relationship(alice, mira, sol)
    answer = await alice.patch(f"/v1/relationships/{made['id']}", json=patch)
    assert (answer.status_code, faults(answer).keys()) == (422, {pointer})


async def test_a_side_that_is_not_an_id_is_refused(alice: Client, mira: Any, sol: Any) -> None:
    made = await relationship(alice, mira, sol)
    path = f"/v1/relationships/{made['id']}"
    other = (await character(alice))["id"]
    for unrelated in (
        await alice.get(f"{path}?from={other}"),
        await alice.patch(f"{path}?from={other}", json={"attitude": 7}),
    ):
        assert (unrelated.status_code, list(faults(unrelated))) == (400, ["from"])
    answer = await alice.get(f"/v1/relationships/{made['id']}?from=sol")
    assert (answer.status_code, faults(answer)) == (400, {"from": "Is not a valid UUID."})


async def test_deleting_a_relationship_deletes_it_for_both_characters(alice: Client, mira: Any, sol: Any) -> None:
    made = await relationship(alice, mira, sol)
    assert (await alice.delete(f"/v1/relationships/{made['id']}")).status_code == 204
    assert (await alice.delete(f"/v1/relationships/{made['id']}")).status_code == 404
    assert (await alice.get(of(sol))).json()["items"] == []


async def test_relationships_are_deleted_with_a_character(alice: Client, mira: Any, sol: Any) -> None:
    made = await relationship(alice, mira, sol)
    await alice.delete(f"/v1/characters/{sol['id']}")
    assert (await alice.get(of(mira))).json()["items"] == []
    assert (await alice.get(f"/v1/relationships/{made['id']}")).status_code == 404


async def test_a_relationship_needs_two_visible_ends(alice: Client, stranger: Client, mira: Any) -> None:
    known = await public(alice, "Known")
    made = [await relationship(alice, known, mira), await relationship(alice, mira, known, type="mentor_of")]
    assert (await stranger.get(of(known))).json()["items"] == []
    for row in made:
        assert (await stranger.get(f"/v1/relationships/{row['id']}")).status_code == 404
    await alice.patch(f"/v1/characters/{mira['id']}", json={"visibility": "public"})
    seen = [told(row) for row in (await stranger.get(of(known))).json()["items"]]
    assert seen == [("Known", "student_of", "Mira"), ("Known", "parent_of", "Mira")]


async def test_a_character_has_a_limited_number_of_relationships(
    alice: Client, mira: Any, sol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "settings", replace(settings, quota_relationships=2))
    others = [await character(alice, name=name) for name in "AB"]
    await relationship(alice, mira, others[0])
    await relationship(alice, others[1], mira)
    for source, target in ((mira, sol), (sol, mira)):
        refused = await alice.post(of(source), json={"target": target["id"], "type": "friend_of"})
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/quota-exceeded")
    await relationship(alice, sol, others[0])


async def test_requests_at_once_do_not_pass_the_quota_together(
    alice: Client, mira: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "settings", replace(settings, quota_relationships=3))
    others = [await character(alice, name=f"Other {number}") for number in range(12)]
    made = [alice.post(of(mira), json={"target": other["id"], "type": "friend_of"}) for other in others]
    assert sorted(answer.status_code for answer in await asyncio.gather(*made)) == [201] * 3 + [403] * 9


async def test_types_are_listed_with_their_inverses(stranger: Client) -> None:
    items = {item["name"]: item for item in (await stranger.get("/v1/relationship-types")).json()["items"]}
    assert items["custom"]["symmetric"] is False  # its labels say
    assert items["child_of"] == {"name": "child_of", "inverse": "parent_of", "symmetric": False, "category": "family"}
    assert all(items[item["inverse"]]["inverse"] == name for name, item in items.items())


async def test_the_source_of_a_row_that_is_sent_back_decides_the_side(alice: Client, mira: Any, sol: Any) -> None:
    made = await relationship(alice, mira, sol, type="mentor_of")
    path = f"/v1/relationships/{made['id']}"
    [row] = (await alice.get(of(sol))).json()["items"]
    sent = await alice.patch(path, json=row | {"attitude": 7})
    assert (sent.status_code, sent.json()["source"]["id"], sent.json()["attitude"]) == (200, sol["id"], 7)
    assert (await alice.get(path)).json()["returned_attitude"] == 7
    again = await alice.patch(path, json={"source": row["source"], "attitude": 8})
    assert (again.status_code, again.json()["attitude"]) == (200, 8)
    refused = await alice.patch(f"{path}?from={mira['id']}", json=row)
    assert refused.status_code == 400
    assert faults(refused) == {"from": "Must be the id of the body's source, or be left out."}
    swapped = await alice.patch(path, json=row | {"target": row["source"]})
    assert (swapped.status_code, faults(swapped).keys()) == (422, {"/target"})
    neither = await alice.patch(path, json={"source": {"id": made["id"]}})
    assert (neither.status_code, faults(neither).keys()) == (422, {"/source"})


async def test_a_target_that_is_not_ones_own_is_pointed_at(alice: Client, charlie: Client, mira: Any) -> None:
    theirs = await character(charlie)
    for source, target, expected in (
        (mira["id"], theirs["id"], {"/target": "Is none of your characters."}),
        (mira["id"], NOWHERE, {"/target": "Is none of your characters."}),
        (theirs["id"], mira["id"], {}),
    ):
        answer = await alice.post(of({"id": source}), json={"target": target, "type": "ally_of"})
        assert (answer.status_code, faults(answer)) == (404, expected)


SYMMETRIC_AND_INVERSE = ("student_of", "mentor_of", "friend_of", "custom", "haunts")


@pytest.mark.parametrize("type_name", SYMMETRIC_AND_INVERSE)
@pytest.mark.parametrize("creator", ["mira", "sol"])
async def test_a_request_that_names_no_side_uses_the_side_of_the_creation(
    alice: Client, mira: Any, sol: Any, type_name: str, creator: str
) -> None:
    source, target = (mira, sol) if creator == "mira" else (sol, mira)
    body: dict[str, Any] = {"target": target["id"], "type": type_name, "attitude": 10, "returned_attitude": 20}
    if type_name in ("custom", "haunts"):
        body |= {"type": "custom", "label": "haunts"} | ({"inverse_label": "fears"} if type_name == "haunts" else {})
    made = await alice.post(of(source), json=body)
    path = made.headers["location"]
    assert path == f"/v1/relationships/{made.json()['id']}"
    assert (await alice.get(path)).content == made.content
    assert (await alice.patch(path, json={})).content == made.content
    sent_back = await alice.patch(path, json=made.json(), headers={"If-Match": made.headers["etag"]})
    assert sent_back.json() | {name: made.json()[name] for name in ("version", "updated_at")} == made.json()
    made = await alice.get(path)
    (change,) = (await alice.get("/v1/changes?kind=relationship")).json()["items"]
    assert change["relationship"] == made.json()
    assert made.json()["source"]["id"] == source["id"]
    exported = [json.loads(line) for line in (await alice.get("/v1/users/me/export")).text.splitlines()]
    assert [line for line in exported if line["kind"] == "relationship"] == [{"kind": "relationship", **made.json()}]
    for root in (mira, sol):
        (edge,) = (await alice.get(f"/v1/characters/{root['id']}/graph")).json()["edges"]
        assert edge == {name: made.json()[name] for name in edge} | {"source": source["id"], "target": target["id"]}
    wrong_type = await alice.patch(path, json={"type": TYPES[type_name][0].name if type_name == "student_of" else "x"})
    assert (wrong_type.status_code, [*faults(wrong_type)]) == (422, ["/type"])
    changed = (await alice.patch(path, json={"type": body["type"], "attitude": 77})).json()
    assert (changed["source"]["id"], changed["attitude"], changed["returned_attitude"]) == (source["id"], 77, 20)
    other = (await alice.get(f"{path}?from={target['id']}")).json()
    assert (other["source"]["id"], other["attitude"], other["returned_attitude"]) == (target["id"], 20, 77)
