"""A request that costs more counts as several against the rate limits, as docs/api.md states."""

from typing import Any

import httpx
import pytest

from service.characters.tables import Character
from service.limits.rate_limits import READS, STORED_BYTES, WRITES, WRITTEN_BYTES
from tests.conftest import character, client, relationship, template
from tests.support.cards import V2, V3, import_files, in_charx, in_json, in_png
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient

PNG = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def new_windows() -> None:
    for limit in (READS, WRITES):
        limit.counter._local._ends_and_counts.clear()


async def counted(member: Client, method: str, path: str, **request: Any) -> int:
    """The number of requests that this one counts as."""
    before = await member.request("GET" if method == "GET" else "PATCH", "/v1/nowhere")
    answer = await member.request(method, path, **request)
    assert answer.is_success, answer.text
    assert answer.headers["ratelimit-limit"] == before.headers["ratelimit-limit"]
    return int(before.headers["ratelimit-remaining"]) - int(answer.headers["ratelimit-remaining"])


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/v1/characters", 1),
        ("/v1/characters?limit=100&fields=name,tags&sort=name", 1),
        ("/v1/characters?q=mira", 2),
        ("/v1/characters?count=exact", 5),
        ("/v1/characters?attributes.class.in=wizard,bard&id.in={id}&style=anime", 3),
        ("/v1/characters?count=estimated", 5),
        ("/v1/characters?fields=name,extensions", 2),
        ("/v1/characters?fields=name,%20attributes", 2),
        ("/v1/characters?q=mira&count=exact&fields=prompt", 7),
        ("/v1/characters?fields=name&fields=prompt", 2),
        ('/v1/characters?fields=name,"prompt"', 2),
        ("/v1/templates?fields=description", 1),  # summaries have it, too
        ("/v1/templates?q=fighter&count=exact", 6),
        ("/v1/trash?count=exact", 5),
        ("/v1/changes", 2),
        ("/v1/users/me", 1),
        ("/v1/users/me/export", 50),
        ("/v1/characters/{id}", 1),
        ("/v1/characters/{id}?fields=extensions", 1),
        ("/v1/characters/{id}/relationships?count=exact", 5),
        ("/v1/characters/{id}/graph", 4),
        ("/v1/characters/{id}/graph?depth=1", 2),
        ("/v1/characters/{id}/graph?depth=4", 8),
        ("/v1/characters/{id}/card", 5),
        ("/v1/characters/{id}/revisions/1/changes", 5),
        ("/v1/templates/{template}/versions", 2),
        ("/v1/templates/{template}/versions/1/changes", 5),
    ],
)
async def test_reads(alice: Client, path: str, units: int) -> None:
    mira, fighter = await character(alice), await template(alice)
    await relationship(alice, mira, await character(alice, name="Otto"))
    assert await counted(alice, "GET", path.format(id=mira["id"], template=fighter["id"])) == units


async def test_writes(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    assert await counted(alice, "PATCH", path, json={"name": "New"}) == 1
    operations = [{"action": "create", "body": {"name": "Otto"}}] * 7
    assert await counted(alice, "POST", "/v1/characters/bulk", json={"operations": operations}) == 7
    fighter = await template(alice)
    for query, units in (("", 10), ("?limit=100", 10), ("?limit=25", 2), ("?limit=5", 1)):
        migration = f"/v1/templates/{fighter['id']}/versions/1/migration{query}"
        assert await counted(alice, "POST", migration) == units
    files = [("file", (f"{number}.json", in_json(V3))) for number in range(3)]
    assert await counted(alice, "POST", "/v1/imports", files=files) == 30
    many = {"file": ("many.charx", in_charx(V3, **{f"assets/{number}": bytes([number]) for number in range(60)}))}
    assert await counted(alice, "POST", "/v1/imports", files=many) == 12
    assert await counted(alice, "PUT", f"{path}/card", files=many) == 12
    assert await counted(alice, "PUT", f"{path}/card", json={"nickname": "Mi"}) == 5
    assert await counted(alice, "PUT", f"{path}/portrait", content=draw_picture(), headers=PNG) == 10
    assert await counted(alice, "PUT", "/v1/users/me/avatar", content=draw_picture(), headers=PNG) == 10


async def test_stored_bytes_are_limited_whether_they_are_used_or_not(
    alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    STORED_BYTES.counter._local._ends_and_counts.clear()
    monkeypatch.setitem(STORED_BYTES.__dict__, "most", 100_000)

    async def upload(member: Client, path: str, color: str) -> httpx.Response:
        return await member.put(f"/v1{path}", content=draw_picture(color=color), headers=PNG)

    mira, otto = await character(alice), await character(charlie)
    statuses = [(await upload(alice, "/users/me/avatar", f"#0000{number:02x}")).status_code for number in range(40)]
    assert statuses == sorted(statuses)  # 200 until the limit is reached, and then 429
    assert {*statuses} == {200, 429}
    refused = await upload(alice, f"/characters/{mira['id']}/portrait", "#ffffff")
    assert "The limit 'stored-bytes' is 100000 in a day for each caller." in refused.json()["detail"]
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    (item,) = await import_files(alice, in_png(draw_picture(), chara=V2))
    assert item["status"] == 429
    assert (await upload(charlie, f"/characters/{otto['id']}/portrait", "#ffffff")).status_code == 200
    assert 'rate_limit_refusals_total{limit="stored-bytes"}' in (await alice.get("/metrics")).text


async def test_the_bytes_of_json_are_limited(alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """No quota counts versions of templates and revisions by their size."""
    WRITTEN_BYTES.counter._local._ends_and_counts.clear()
    monkeypatch.setitem(WRITTEN_BYTES.__dict__, "most", 50_000)
    large = {"name": "Mira", "description": "x" * 20_000}
    answers = [await alice.post("/v1/characters", json=large) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert "The limit 'written-bytes' is 50000 in a day for each caller." in answers[2].json()["detail"]
    assert await Character.count() == 2
    assert (await alice.post("/v1/characters", json={"name": "Otto", "description": "x" * 4_000})).status_code == 201
    assert (await charlie.post("/v1/characters", json=large)).status_code == 201


async def test_a_request_that_costs_more_than_is_left_is_refused_without_effect(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WRITES.__dict__, "most", 10)
    operations = [{"action": "create", "body": {"name": "Otto"}}] * 11
    for headers in ({}, {"Idempotency-Key": "a-key"}):
        WRITES.counter._local._ends_and_counts.clear()
        answer = await alice.post("/v1/characters/bulk", json={"operations": operations}, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-requests")
        assert answer.headers["ratelimit-remaining"] == "0"
        assert 0 < int(answer.headers["retry-after"]) <= 60
    assert await Character.count() == 0


@pytest.mark.parametrize("query", ["depth=9", "depth=%FF", "depth=1&depth=4", "fields", "q", "count", "%00=1"])
async def test_parameters_that_are_not_valid_are_refused_as_ever(app: Any, alice: Client, query: str) -> None:
    mira = await character(alice)
    async with client(app) as stranger:
        for path in ("/v1/characters", f"/v1/characters/{mira['id']}/graph"):
            assert (await stranger.get(f"{path}?{query}")).status_code in (400, 404)
