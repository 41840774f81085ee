"""``POST /v1/characters/bulk``: many changes at once, each as its own request would make it."""

from typing import Any

import httpx
import pytest

from service.characters.tables import Character, Revision
from service.database import embedded
from tests.conftest import DATA_DIR, character, faults, public, template, with_key
from tests.support.servers import execute

Client = httpx.AsyncClient

BULK = "/v1/characters/bulk"
INVALID = {"action": "create", "body": {"name": "", "style": "baroque"}}


def making(name: str, **given: Any) -> dict[str, Any]:
    return {"action": "create", "body": {"name": name} | given}


async def bulk(member: Client, *operations: Any, atomic: bool = False) -> list[Any]:
    answer = await member.post(BULK, json={"operations": operations, "atomic": atomic})
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def names(member: Client) -> list[str]:
    return sorted(item["name"] for item in (await member.get("/v1/characters?limit=100")).json()["items"])


async def test_each_operation_has_the_effect_and_response_of_its_own_request(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    items = await bulk(
        alice,
        making("New", tags=["night"]),
        {"action": "update", "id": mira["id"], "version": 1, "body": {"name": "Mira Halloran"}},
        {"action": "update", "id": mira["id"], "body": {"attributes": {"hp": 3}}},
        {"action": "delete", "id": otto["id"], "version": 1},
    )
    assert [item["status"] for item in items] == [201, 200, 200, 204]
    assert items[0]["character"] == (await alice.get(f"/v1/characters/{items[0]['character']['id']}")).json()
    assert (items[1]["character"]["name"], items[1]["character"]["version"]) == ("Mira Halloran", 2)
    assert items[2]["character"] == (await alice.get(f"/v1/characters/{mira['id']}")).json()
    assert items[3] == {"status": 204}
    assert [item["name"] for item in (await alice.get("/v1/trash")).json()["items"]] == ["Otto"]
    assert await Revision.count() == 3


async def test_each_operation_is_refused_as_its_own_request_would_be(alice: Client, charlie: Client) -> None:
    fighters = await template(alice)
    mira, seen, hidden = await character(alice), await public(charlie), await character(charlie)
    own, stale = f"/v1/characters/{mira['id']}", {"If-Match": f'"{mira["id"]}-7"'}
    weak = {"name": "Weak", "template": fighters["id"], "attributes": {"strength": 0, "no": 1}}
    faulty = {"nme": "Mira", "style": "baroque"}
    singles: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", "/v1/characters", INVALID["body"], {}),
        ("POST", "/v1/characters", weak, {}),
        ("POST", "/v1/characters", {"name": "Nowhere", "template": mira["id"]}, {}),
        ("PATCH", own, faulty, {}),
        ("PATCH", own, {"name": "Late"}, stale),
        ("PATCH", f"/v1/characters/{seen['id']}", {"name": "A"}, {}),
        ("DELETE", own, None, stale),
        ("DELETE", f"/v1/characters/{hidden['id']}", None, {}),
    ]
    items = await bulk(
        alice,
        {"action": "create", "body": INVALID["body"]},
        {"action": "create", "body": weak},
        {"action": "create", "body": {"name": "Nowhere", "template": mira["id"]}},
        {"action": "update", "id": mira["id"], "body": faulty},
        {"action": "update", "id": mira["id"], "version": 7, "body": {"name": "Late"}},
        {"action": "update", "id": seen["id"], "body": {"name": "A"}},
        {"action": "delete", "id": mira["id"], "version": 7},
        {"action": "delete", "id": hidden["id"]},
    )
    assert [item["status"] for item in items] == [422, 422, 404, 422, 412, 403, 412, 404]
    for (method, path, body, headers), item in zip(singles, items, strict=True):
        single = (await alice.request(method, path, json=body, headers=headers)).json()
        told = item["problem"]
        assert (told.pop("instance"), single.pop("instance")) == (BULK, path)
        assert told.pop("request_id") != single.pop("request_id")
        if method == "DELETE" and item["status"] == 404:  # a single request has the id in its path
            assert [error["pointer"] for error in told.pop("errors")] == ["/operations/7/id"]
        if item["status"] == 412:  # and the version in a header
            (stale_item,), (stale_header,) = told.pop("errors"), single.pop("errors")
            assert stale_item.pop("pointer") == f"/operations/{items.index(item)}/version"
            assert stale_header.pop("header") == "If-Match"
            assert stale_item == stale_header == {"detail": "Is not the current version, which is 1."}
            del told["detail"], single["detail"]
        assert item == {"status": single["status"], "problem": single}
    assert await Character.count() == 3


@pytest.mark.parametrize("atomic", [True, False])
async def test_every_stale_version_has_a_pointer(alice: Client, atomic: bool) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    late = {"action": "update", "id": mira["id"], "version": 3, "body": {"name": "Late"}}
    as_read = late | {"body": mira | {"created_at": "1999-12-31T23:59:59Z"}}  # stale before it is read-only
    delete = {"action": "delete", "id": otto["id"], "version": 1}
    fresh = {"action": "update", "id": otto["id"], "version": 1, "body": {"name": "Otto II"}}
    body = {"operations": [late, as_read, fresh, delete], "atomic": atomic}
    items = (await alice.post(BULK, json=body)).json()["items"]
    assert [item["status"] for item in items] == [412, 412, 424 if atomic else 200, 412]
    errors = [error for item in items for error in item.get("problem", {}).get("errors", ())]
    assert {error["pointer"]: error["detail"] for error in errors} == {
        "/operations/0/version": "Is not the current version, which is 1.",
        "/operations/1/version": "Is not the current version, which is 1.",
        "/operations/3/version": "Is not the current version, which is 2.",
    }


async def test_an_unknown_id_has_a_pointer(alice: Client) -> None:
    unknown = "0199c0de-0000-7000-8000-000000000000"
    items = await bulk(
        alice,
        making("New"),
        {"action": "update", "id": unknown, "body": {"name": "Mira"}},
        {"action": "update", "id": unknown, "body": {"id": unknown, "name": "Mira"}},  # as it was read
        {"action": "delete", "id": unknown},
        making("Nowhere", template=unknown),
    )
    found = [[error["pointer"] for error in item.get("problem", {}).get("errors", [])] for item in items]
    assert found == [[], ["/operations/1/id"], ["/operations/2/id"], ["/operations/3/id"], ["/template"]]


async def test_a_failed_operation_does_not_stop_the_others(alice: Client) -> None:
    items = await bulk(alice, making("First"), INVALID, making("Last"))
    assert [item["status"] for item in items] == [201, 422, 201]
    assert await names(alice) == ["First", "Last"]


async def test_an_operation_refused_by_the_database_does_not_stop_the_others(alice: Client) -> None:
    dsn = embedded.dsn(DATA_DIR)
    await execute(
        dsn,
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'data_exception'; END $$;
        CREATE TRIGGER refuse AFTER INSERT ON characters FOR EACH ROW
            WHEN (NEW.name = 'Refused') EXECUTE FUNCTION refuse();
        """,
    )
    try:
        items = await bulk(alice, making("First"), making("Refused"), making("Last"))
    finally:
        await execute(dsn, "DROP FUNCTION refuse CASCADE")
    assert [item["status"] for item in items] == [201, 400, 201]
    assert await names(alice) == ["First", "Last"]


async def test_an_atomic_bulk_does_all_or_nothing(alice: Client) -> None:
    mira = await character(alice)
    change = {"action": "update", "id": mira["id"], "body": {"name": "Other"}}
    end = {"action": "delete", "id": mira["id"]}
    items = await bulk(alice, making("First"), INVALID, change, end, atomic=True)
    assert [item["status"] for item in items] == [424, 422, 424, 424]
    assert items[0]["problem"]["type"] == "/problems/failed-dependency"
    assert [error["pointer"] for error in items[1]["problem"]["errors"]] == ["/name", "/style"]
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json() == mira
    assert await names(alice) == ["Mira"]
    assert await Revision.count() == 0
    done = await bulk(alice, making("First"), change, end, atomic=True)
    assert [item["status"] for item in done] == [201, 200, 204]
    assert await names(alice) == ["First"]


async def test_a_failed_atomic_bulk_is_replayed_and_changes_nothing(alice: Client) -> None:
    body = {"operations": [making("First"), INVALID], "atomic": True}
    first = await alice.post(BULK, json=body, headers={"Idempotency-Key": "a"})
    again = await alice.post(BULK, json=body, headers={"Idempotency-Key": "a"})
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert await names(alice) == []


async def test_a_dry_run_writes_nothing(alice: Client) -> None:
    dry = await alice.post(f"{BULK}?dry_run=true", json={"operations": [making("First"), INVALID]})
    assert [item["status"] for item in dry.json()["items"]] == [201, 422]
    assert await names(alice) == []


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ({"action": "create"}, {"/operations/1/body"}),
        ({"action": "update"}, {"/operations/1/id", "/operations/1/body"}),
        ({"action": "delete"}, {"/operations/1/id"}),
        (
            {"action": "create", "id": "0199c0de-0000-7000-8000-000000000000", "version": 1, "body": {}},
            {"/operations/1/id", "/operations/1/version"},
        ),
        (
            {"action": "delete", "id": "0199c0de-0000-7000-8000-000000000000", "body": {}},
            {"/operations/1/body"},
        ),
        ({"action": "publish"}, {"/operations/1/action"}),
        ({"action": "delete", "id": "mira"}, {"/operations/1/id"}),
        ({"action": "create", "body": {"name": "A\0"}}, {"/operations/1/body/name"}),
    ],
)
async def test_an_operation_that_cannot_be_read_refuses_the_whole(
    alice: Client, operation: Any, told: set[str]
) -> None:
    answer = await alice.post(BULK, json={"operations": [making("First"), operation]})
    assert (answer.status_code, faults(answer).keys()) == (422, told)
    assert await names(alice) == []


async def test_between_1_and_100_operations(alice: Client) -> None:
    for number in (0, 101):
        answer = await alice.post(BULK, json={"operations": [making("A")] * number})
        assert (answer.status_code, faults(answer).keys()) == (422, {"/operations"})
    assert await names(alice) == []


async def test_a_hundred_at_once_take_four_statements_each(alice: Client, statements: list[str]) -> None:
    fighters = await template(alice)
    statements.clear()
    items = await bulk(alice, *[making(f"Number {n}", template=fighters["id"]) for n in range(100)], atomic=True)
    assert len(statements) < 4 * 100 + 20
    assert {item["status"] for item in items} == {201}
    assert await Character.count() == 100


async def test_callers_without_write_access_are_refused(app: Any, alice: Client, stranger: Client) -> None:
    reader = await with_key(app, alice, "characters:read")
    body = {"operations": [making("First")]}
    assert (await reader.post(BULK, json=body)).status_code == 403
    assert (await stranger.post(BULK, json=body)).status_code == 401


async def test_the_address_has_no_other_method(alice: Client) -> None:
    refused = await alice.get(BULK)
    assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_bulk_whose_characters_are_too_large_together_changes_nothing(
    alice: Client, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    large = await character(alice, description="é" * 2_000)
    update = {"action": "update", "id": large["id"], "body": {"tags": ["a"]}}
    monkeypatch.setattr("service.characters.bulk.MAX_ANSWERED", 10_000)
    refused = await alice.post(BULK, json={"operations": [making("New"), *[update] * 3], "atomic": atomic})
    assert (refused.status_code, refused.json()["type"]) == (413, "/problems/too-large")
    assert (await alice.get(f"/v1/characters/{large['id']}")).json() == large
    assert await names(alice) == [large["name"]]
    items = await bulk(alice, *[update] * 2, {"action": "delete", "id": large["id"]}, atomic=atomic)
    assert [item["status"] for item in items] == [200, 200, 204]
