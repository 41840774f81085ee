"""Shared by the lists of characters and templates: search in every script, tags, names, ids, owners and days."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.database.engine import DB
from service.templates.tables import Template
from service.text.folding import tag_keys
from tests.conftest import character, faults, template

Client = httpx.AsyncClient

LISTS = {"/v1/characters": character, "/v1/templates": template}
both = pytest.mark.parametrize("path", LISTS)

SEARCHED = {
    "東京都の侍": {
        "東京": 1,
        "京都": 1,
        "都の侍": 1,
        "侍": 1,
        "東都": 0,
        "東侍": 0,
        "-東京": 0,
        "東京 -侍": 0,
        '"京都"': 1,
    },
    "김철수는 기사": {"철수": 1, "수는": 1, "기": 1, "수김": 0, "철수 or dragon": 1, "철수 dragon": 0},
    "นักรบแห่งสยาม": {"รบ": 1, "สยาม": 1, "แห่งส": 1, "สยามรบ": 0},
    "Tower東京": {"tower": 1, "東京": 1, "Tower東京": 1, "東京 tower": 1, "tower -東京": 0},
    "ｶﾞﾝﾀﾞﾑ": {"ガンダム": 1, "ンダ": 1, "ダン": 0},
    "Ёлка ΟΔΟΣ": {"елка": 1, "ЁЛКА": 1, "οδος": 1, "οδοσ": 1},
}


async def names(member: Client, path: str, **parameters: Any) -> list[str]:
    answer = await member.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


@both
@pytest.mark.parametrize("place", ["name", "description", "tags"])
async def test_parts_of_words_are_found_in_scripts_without_spaces(alice: Client, path: str, place: str) -> None:
    for number, text in enumerate(SEARCHED):
        given: dict[str, Any] = {"name": str(number)} | {place: [text] if place == "tags" else text}
        made = await LISTS[path](alice, **given)
        for searched, expected in SEARCHED[text].items():
            for sort in ("-rank", "-created_at"):
                found = await alice.get(path, params={"q": searched, "sort": sort, "fields": "id"})
                ids = [item["id"] for item in found.json()["items"]]
                assert (made["id"] in ids) == bool(expected), (text, searched)


@both
async def test_names_are_sorted_by_their_folded_form(alice: Client, path: str) -> None:
    expected = ["Ærin", "Dora", "Dörte", "dosia", "Do\u0308ten", "Łukasz", "Zoë", "Άννα", "άρης", "Ёж", "жук", "侍"]
    for name in reversed(expected):
        await LISTS[path](alice, name=name)
    assert await names(alice, path, sort="name") == expected
    assert await names(alice, path, sort="-name") == expected[::-1]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        body = (await alice.get(path, params={"sort": "name", "limit": "5"} | cursor)).json()
        seen += [item["name"] for item in body["items"]]
        if body["next_cursor"] is None:
            break
        cursor = {"cursor": body["next_cursor"]}
    assert seen == expected


@both
async def test_a_name_that_grows_when_it_is_folded_is_sorted_and_found(alice: Client, path: str) -> None:
    long = ["\ufdfa" * 120, "㍿" * 120, "🐉" * 120, "ß" * 120]
    for name in long:
        await LISTS[path](alice, name=name)
        assert await names(alice, path, name=name) == [name]
    body = (await alice.get(path, params={"sort": "name", "limit": "3"})).json()
    last = await names(alice, path, sort="name", cursor=body["next_cursor"])
    assert sorted([*(item["name"] for item in body["items"]), *last]) == sorted(long)


@both
async def test_tags_are_compared_without_case_and_in_nfc(alice: Client, path: str) -> None:
    made = await LISTS[path](
        alice, name="Ada", tags=["Night City", "night city", "Z\u00dcRICH", "zu\u0308rich", "a, b"]
    )
    assert made["tags"] == ["Night City", "Z\u00dcRICH", "a, b"]
    await LISTS[path](alice, name="Bob", tags=["Strase", "οδος"])
    found = {
        "tags": {"NIGHT CITY": ["Ada"], "Zürich,night city": ["Ada"], "zu\u0308rich": ["Ada"], "zurich": [],
                 '"A, B"': ["Ada"], '"a, b",zürich': ["Ada"], "ΟΔΟΣ": ["Bob"], "night": []},
        "tags.any": {"x,ZÜRICH": ["Ada"], "strase,night city": ["Ada", "Bob"]},
        "tags.none": {"NIGHT CITY": ["Bob"], "x": ["Ada", "Bob"], "strase,zürich": [], '"a, b"': ["Bob"]},
    }  # fmt: skip
    for parameter, values in found.items():
        for value, expected in values.items():
            assert await names(alice, path, **{parameter: value}, sort="name") == expected, (parameter, value)
    changed = await alice.patch(f"{path}/{made['id']}", json={"tags": ["Sea", "SEA", "sea"]})
    assert changed.json()["tags"] == ["Sea"]


@both
async def test_rows_are_found_by_name_id_owner_and_day(alice: Client, charlie: Client, path: str) -> None:
    make = LISTS[path]
    ada, bob = await make(alice, name="Dörte", visibility="public"), await make(alice, name="Bob")
    await make(charlie, name="Cid", visibility="public")
    owner = ada["owner"]["id"]
    found: list[tuple[dict[str, Any], str, str]] = [  # by Alice, by Charlie
        ({"name": "DORTE"}, "Dörte", "Dörte"),
        ({"name": "Dor"}, "", ""),
        ({"name": "bob"}, "Bob", ""),
        ({"id.in": f"{ada['id']},{bob['id']},{uuid4()}"}, "Bob Dörte", "Dörte"),
        ({"id.in": [bob["id"], ada["id"]]}, "Bob Dörte", "Dörte"),
        ({"owner_id": owner}, "Bob Dörte", "Dörte"),
        ({"owner_id": str(uuid4())}, "", ""),
        ({"created_at.gte": "2020-01-01", "created_at.lt": "2100-12-31"}, "Bob Cid Dörte", "Cid Dörte"),
        ({"created_at.lt": ada["created_at"][:10]}, "", ""),
        ({"updated_at.gte": ada["updated_at"][:10]}, "Bob Cid Dörte", "Cid Dörte"),
        ({"q": "dorte"}, "Dörte", "Dörte"),
    ]
    for query, alices, charlies in found:
        for member, expected in ((alice, alices), (charlie, charlies)):
            assert " ".join(await names(member, path, **query, sort="name")) == expected, query
            assert (await member.get(path, params=query | {"count": "exact"})).json()["total"] == len(expected.split())


@both
async def test_faulty_filters_are_refused(stranger: Client, path: str) -> None:
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"id.in": "1"}, "id.in", "UUID"),
        ({"id.in": ",".join(str(uuid4()) for _ in range(101))}, "id.in", "at most 100"),
        ({"owner": "alice", "owner_id": str(uuid4())}, "owner_id", "with owner"),
        ({"owner_id": "alice"}, "owner_id", "UUID"),
        ({"name": ""}, "name", "at least 1"),
        ({"created_at.gte": "2026-02-30"}, "created_at.gte", "RFC 3339"),
        ({"created_at.gte": "2026-1-1"}, "created_at.gte", "RFC 3339"),
        ({"tags.none": '"open'}, "tags.none", "close each quote"),
        ({"sort": "rank"}, "sort", "search"),
    ]
    for query, parameter, told in refused:
        answer = await stranger.get(path, params=query)
        assert (answer.status_code, faults(answer).keys()) == (400, {parameter}), query
        assert told in faults(answer)[parameter], query
    assert (await stranger.get(path, params={"id.in": ",".join(str(uuid4()) for _ in range(100))})).status_code == 200


async def test_the_platforms_templates_are_found_by_everybody(alice: Client, stranger: Client) -> None:
    row = Template(id=uuid4(), owner=None, name="Détective", tags=["Noir"], visibility="public")
    await Template.insert(row)
    queries = [
        {"q": "detective"}, {"q": "detectiv"}, {"name": "detective"}, {"tags": "NOIR"}, {"tags.none": "x"},
        {"id.in": str(row.id)}, {"created_at.gte": "2020-01-01"}, {"owner": "platform", "q": "noir"},
    ]  # fmt: skip
    for query in queries:
        for member in (alice, stranger):
            assert await names(member, "/v1/templates", **query) == ["Détective"], query


async def test_tags_are_folded_in_python_as_in_postgresql(app: Any) -> None:
    """Only assigned characters, whose NFC no newer Unicode changes."""
    letters = [chr(code) for code in (*range(0x20, 0x3000), *range(0xF900, 0x10000))]
    letters = [letter for letter in letters if letter.isprintable()]
    (row,) = await DB._run_in_pool("SELECT tag_keys($1::text[]) AS keys", [letters])
    assert len(letters) > 10_000
    assert row["keys"] == tag_keys(letters)


@both
@pytest.mark.parametrize(
    "query", ["tags=", "tags.any=", "tags.none=", "tags=a,,b", 'tags=""', "id.in=", "fields=", "sort=", "owner="]
)
async def test_a_parameter_has_no_empty_part(alice: Client, path: str, query: str) -> None:
    answer = await alice.get(f"{path}?{query}")
    assert (answer.status_code, list(faults(answer))) == (400, [query.partition("=")[0]])
