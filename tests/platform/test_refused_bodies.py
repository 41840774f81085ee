"""Bodies that are refused before a route sees them, and the words that refuse them."""

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.conftest import character, faults
from tests.support.answers import check_problem
from tests.support.cards import V2, in_charx, in_json, in_png
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient
JSON = {"Content-Type": "application/json"}
ZIP, PNG = in_charx(V2), draw_picture()


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b'{"name": "Mira",\n "tags": [1 2]}', 2, 13),
        (b'{"name": "Mira",\n "tags": [', 2, 11),
        ('{"name": "Möräé", \'a\': 1}'.encode(), 1, 19),
        (b'\n\n{"name": "\xff"}', 3, 11),
    ],
)
async def test_a_syntax_error_has_its_line_and_column(alice: Client, body: bytes, line: int, column: int) -> None:
    answer = await alice.post("/v1/characters", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"The body is not valid JSON (UTF-8): line {line}, column {column}."


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, identity", "zstd", "unknown"])
async def test_a_compressed_body_is_refused(alice: Client, coding: str) -> None:
    body = gzip.compress(json.dumps({"name": "Mira"}).encode())
    for path in ("/v1/characters", "/v1/imports", "/v1/nothing"):
        answer = await alice.post(path, content=body, headers=JSON | {"Content-Encoding": coding})
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
        assert answer.json()["type"] == "/problems/unsupported-media-type"
    plain = await alice.post("/v1/characters", json={"name": "Mira"}, headers={"Content-Encoding": "Identity"})
    assert plain.status_code == 201


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
SCHEMAS: tuple[Any, ...] = (
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "(["}}},
    {"type": "object", "properties": {"a": {"type": "string", "format": "regex"}}},
    {"type": "thing", "minimum": "x", "$ref": "file:///etc/passwd"},
)
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/characters", {"json": {"name": 1, "template": [], "template_version": 2**70, "style": "x"}}),
    ("POST", "/v1/characters", {"content": b'{"name": "a\\ud800"}', "headers": JSON}),
    ("POST", "/v1/characters", {"content": b'{"name": "a", "attributes": {"a": 1e999}}', "headers": JSON}),
    ("POST", "/v1/characters", {"content": b"\xff\xfe{", "headers": JSON}),
    ("POST", "/v1/characters/bulk", {"json": {"operations": [{"action": "x", "id": 1, "version": 0.5}]}}),
    *(("POST", "/v1/templates", {"json": {"name": "a", "attribute_schema": schema}}) for schema in SCHEMAS),
    ("GET", "/v1/characters?created_at.gte=2026-13-01T00:00:00Z&limit=1e9&style=x&template=1&count=x&cursor=%FF", {}),
    ("GET", "/v1/characters?cursor=eyJhIjox", {}),
    ("GET", "/v1/characters?q=%00&tags=%22a", {}),
    ("GET", "/v1/changes?after=-1", {}),
    ("GET", "/v1/templates/0199a0a0-0000-7000-8000-000000000000/versions/99999999999", {}),
    ("PATCH", "/v1/users/me", {"json": {"links": [{"title": "a", "url": "x"}], "email": "x"}}),
    ("PATCH", "/v1/users/me", {"json": {"bio": ""}, "headers": {"If-Match": "x"}}),
    ("POST", "/v1/api-keys", {"json": {"name": "a", "scopes": ["x"], "expires_at": "tomorrow"}}),
    ("PUT", "/v1/users/me/avatar", {"content": PNG[:60], "headers": {"Content-Type": "image/png"}}),
    ("PUT", "/v1/users/me/avatar", {"content": PNG[:-40] + b"x" * 40, "headers": {"Content-Type": "image/png"}}),
    ("PUT", "/v1/users/me/avatar", {"content": b"GIF89a" + b"\xff" * 40, "headers": {"Content-Type": "image/gif"}}),
    ("PUT", "/v1/users/me/avatar", {"content": b"no form", "headers": FORM}),
    ("PUT", "/v1/users/me/avatar", {"content": b"--b\r\nContent-Disposition: x\r\n\r\n", "headers": FORM}),
    ("PUT", "/v1/users/me/avatar", {"content": b"", "headers": {"Content-Type": "multipart/form-data"}}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "request_"), REFUSED)
async def test_no_text_of_a_library_is_passed_on(
    alice: Client, method: str, path: str, request_: dict[str, Any]
) -> None:
    answer = await alice.request(method, path, **request_)
    assert 400 <= answer.status_code < 500, answer.text
    check_problem(answer.content)


async def test_no_card_is_refused_in_the_words_of_a_library(alice: Client) -> None:
    contents = (
        ZIP[:100], ZIP[:60] + b"\0" * 60 + ZIP[120:], in_charx({"spec": 1}), b"PK\3\4", in_json(V2)[:-4], b"{\xff}",
        b'{"a": 1e999}', in_png(PNG, chara={"data": []}), PNG, PNG[:50], b"[" * 1000, b"text",
        in_json({"spec": "chara_card_v2", "spec_version": 1, "data": {"name": {}, "character_book": "x"}}),
    )  # fmt: skip
    files = [("file", ("card", content)) for content in contents]
    answer = await alice.post("/v1/imports", files=files)
    assert answer.status_code == 200
    for item in answer.json()["items"]:
        assert item["status"] >= 400, item
        check_problem(json.dumps(item["problem"]).encode())


async def test_attributes_are_refused_in_the_words_of_this_service(alice: Client) -> None:
    formats = {"d": "date", "e": "email", "u": "uuid", "t": "date-time", "i": "ipv6", "r": "uri"}
    properties: dict[str, Any] = {name: {"type": "string", "format": each} for name, each in formats.items()}
    properties |= {"p": {"type": "string", "pattern": "^a$"}, "m": {"type": "number", "multipleOf": 0.5}}
    schema = {"type": "object", "properties": properties, "additionalProperties": False, "required": ["x"]}
    made = await alice.post("/v1/templates", json={"name": "a", "attribute_schema": schema | {"required": ["p"]}})
    assert made.status_code == 201, made.text
    attributes = dict.fromkeys(formats, "x") | {"m": 0.3, "y": 1, "p": "b"}
    body = {"name": "a", "template": made.json()["id"], "attributes": attributes}
    answer = await alice.post("/v1/characters", json=body)
    assert answer.status_code == 422
    assert len(faults(answer)) == len(attributes)
    mira = await character(alice, template=made.json()["id"], attributes={"p": "a"})
    assert (await alice.patch(f"/v1/characters/{mira['id']}", json={"attributes": {"p": 1}})).status_code == 422
