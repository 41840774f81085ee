"""Who may not write is refused before the body is: no fault of a body hides a 403 or a 404."""

from typing import Any

import asyncpg
import httpx
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR, character, client, public, relationship
from tests.contracts.test_routes import belongings
from tests.support.pictures import draw_picture
from tests.support.routes import HANDLERS, ROWS, Row

Client = httpx.AsyncClient
JSON = {"Content-Type": "application/json"}
PNG = draw_picture()

BODIES: dict[str, dict[str, Any]] = {
    "an unknown member": {"json": {"unknown": 1}},
    "a wrong type": {"json": []},
    "read-only members": {"json": {"id": "x", "version": 1, "owner": None, "source": {"id": "x"}}},
    "wrong values": {"json": {"name": "", "tags": "x", "attitude": 1e9, "attribute_schema": {"$ref": "x"}}},
    "no JSON": {"content": b"{", "headers": JSON},
    "a number out of range": {"content": b'{"attitude": 1e999}', "headers": JSON},
    "no body": {"content": b"", "headers": JSON},
    "a text": {"content": b"text", "headers": {"Content-Type": "text/plain"}},
    "too deep": {"content": b"[" * 100, "headers": JSON},
    "half a picture": {"content": PNG[:60], "headers": {"Content-Type": "image/png"}},
    "an unknown picture": {"content": b"text", "headers": {"Content-Type": "image/png"}},
    "a form without a file": {"data": {"file": "text", "unknown": "x"}, "files": {"other": b"x"}},
    "a form with no picture": {"files": {"file": b"text"}},
    "no form": {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
}
REFUSED = {
    visibility: [
        row
        for row in ROWS
        if row.route.startswith(("POST /v1", "PUT /v1", "PATCH /v1"))
        and "_id}" in row.route
        and row.answer("other", visibility) in (403, 404)
    ]
    for visibility in ("private", "public")
}


@pytest.mark.parametrize("visibility", REFUSED)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
async def test_a_caller_who_may_not_write_is_refused_before_the_body(
    alice: Client, charlie: Client, visibility: str, query: str
) -> None:
    ids = await belongings(alice, visibility)
    found, expected = {}, {}
    for row in REFUSED[visibility]:
        method, path = row.route.format(**ids).split()
        for name, body in BODIES.items():
            answer = await charlie.request(method, path + query, **body)
            found[row.route, name] = answer.status_code
            expected[row.route, name] = row.answer("other", visibility)
            assert "errors" not in answer.json(), (row.route, name)
    assert found == expected
    assert len({route for route, _ in found}) >= 10


@pytest.mark.parametrize("row", [row for row in ROWS if HANDLERS.get(row.route)], ids=lambda row: row.route)
def test_each_route_that_writes_what_others_see_checks_the_caller(row: Row) -> None:
    handler = HANDLERS[row.route]
    if row in (*REFUSED["private"], *REFUSED["public"]) and (handler.parsed_data_field or "prepare" in handler.opt):
        assert "check_caller" in handler.opt


async def test_a_scope_and_a_token_are_missing_before_the_body_is_read(app: Any, alice: Client) -> None:
    mira = await public(alice)
    answer = await client(app).patch(f"/v1/characters/{mira['id']}", content=b"{", headers=JSON)
    assert answer.status_code == 401


async def test_an_owner_still_reads_the_faults(alice: Client) -> None:
    ids = await belongings(alice, "public")
    for row in REFUSED["public"]:
        method, path = row.route.format(**ids).split()
        handler = HANDLERS[row.route]
        if handler.parsed_data_field or "prepare" in handler.opt:
            answer = await alice.request(method, path, **BODIES["an unknown member"])
            assert answer.status_code in (415, 422), row.route


async def test_a_refused_request_waits_for_no_other_writer(alice: Client, charlie: Client) -> None:
    """One that waited for the lock would be 503."""
    ids = await belongings(alice, "public")
    elsewhere = await asyncpg.connect(embedded.dsn(DATA_DIR))
    found, expected = {}, {}
    try:
        async with elsewhere.transaction():
            await elsewhere.execute("SELECT FROM characters, templates, relationships FOR UPDATE")
            for row in REFUSED["public"]:
                method, path = row.route.format(**ids).split()
                handler = HANDLERS[row.route]
                if handler.parsed_data_field or "prepare" in handler.opt:
                    for member, status in ((alice, 422), (charlie, row.answer("other", "public"))):
                        answer = await member.request(method, path, json={"unknown": 1})
                        found[row.route, status] = answer.status_code
                        expected[row.route, status] = 415 if answer.status_code == 415 else status
    finally:
        await elsewhere.close()
    assert found == expected
    assert len(found) >= 12


BULK: list[tuple[dict[str, Any], int]] = [
    ({"unknown": 1}, 403),
    ({"name": ""}, 403),
    ({"version": 7, "attributes": []}, 403),
    ({}, 403),
]


@pytest.mark.parametrize(("body", "expected"), BULK)
async def test_bulk_refuses_the_caller_of_each_operation_first(
    alice: Client, charlie: Client, body: dict[str, Any], expected: int
) -> None:
    seen, hidden = await public(alice), await character(alice)
    operations = [{"action": "update", "id": each["id"], "body": body} for each in (seen, hidden)]
    answer = await charlie.post("/v1/characters/bulk", json={"operations": operations})
    assert [item["status"] for item in answer.json()["items"]] == [expected, 404]


LABELS: list[dict[str, Any]] = [
    {"type": "custom"},
    {"type": "serves", "label": "x"},
    {"type": "serves", "target": "itself"},
]


@pytest.mark.parametrize("body", LABELS)
async def test_a_relationship_of_another_is_not_found_before_its_labels_are_checked(
    alice: Client, charlie: Client, body: dict[str, Any]
) -> None:
    mira, own = await public(alice), await public(charlie)
    target = mira["id"] if body.get("target") else own["id"]
    answer = await charlie.post(f"/v1/characters/{mira['id']}/relationships", json=body | {"target": target})
    assert (answer.status_code, answer.json().get("errors")) == (404, None)


async def test_a_row_sent_from_a_third_side_is_refused_for_its_reader(alice: Client, charlie: Client) -> None:
    mira, sol, third = [await public(alice) for _ in range(3)]
    row = await relationship(alice, mira, sol)
    sent = row | {"source": {"id": third["id"]}}
    answer = await charlie.patch(f"/v1/relationships/{row['id']}?from={mira['id']}", json=sent)
    assert answer.status_code == 403
