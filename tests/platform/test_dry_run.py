"""``?dry_run=true``: a write answers as usual and stores nothing."""

import asyncio
from typing import Any

import httpx
import pytest

from service.database.engine import DB
from service.piccolo_app import APP_CONFIG
from service.web.middleware.writes import Writes
from tests.conftest import FIGHTER, character, faults, public, relationship, template, with_key
from tests.support.cards import V2, in_json
from tests.support.pictures import draw_picture, give_portrait
from tests.support.routes import ROWS, route_of, routes_with

Client = httpx.AsyncClient

DRY = {"dry_run": "true"}


async def everything() -> dict[str, Any]:
    """All rows of all tables, except the last use of tokens and the outbox, which a worker empties."""
    moving = {"tokens", "outbox", "email_tokens"}
    tables = [table for table in APP_CONFIG.table_classes if table._meta.tablename not in moving]
    return {table._meta.tablename: sorted(map(str, await table.select())) for table in tables}


@pytest.fixture
async def there(alice: Client) -> dict[str, Any]:
    """One resource of each kind, by the names in the paths below."""
    fighters = await template(alice)
    draft = await alice.post(f"/v1/templates/{fighters['id']}/versions", json={"attribute_schema": FIGHTER})
    assert draft.status_code == 201
    spare = await alice.post(f"/v1/templates/{fighters['id']}/versions", json={"attribute_schema": FIGHTER})
    assert (await alice.put(f"{spare.headers['location']}/publication")).status_code == 200
    mira, otto = await character(alice, template=fighters["id"], template_version=1), await character(alice)
    related = await relationship(alice, mira, otto)
    await give_portrait(mira)
    await alice.patch(f"/v1/characters/{mira['id']}", json={"name": "Mira the Second"})
    gone = await character(alice, name="Gone")
    await alice.delete(f"/v1/characters/{gone['id']}")
    return {
        "template": fighters["id"], "mira": mira["id"], "otto": otto["id"], "gone": gone["id"], "tie": related["id"]
    }  # fmt: skip


WRITES = [
    ("POST", "/v1/characters", {"name": "New"}, 200),
    ("POST", "/v1/characters/bulk", {"operations": [{"action": "create", "body": {"name": "New"}}]}, 200),
    ("PATCH", "/v1/characters/{mira}", {"name": "Other", "attributes": {"strength": 3}}, 200),
    ("DELETE", "/v1/characters/{mira}", None, 204),
    ("PUT", "/v1/characters/{mira}/portrait", draw_picture(), 200),
    ("DELETE", "/v1/characters/{mira}/portrait", None, 204),
    ("POST", "/v1/characters/{mira}/copies", {}, 200),
    ("POST", "/v1/imports", [("file", ("mira.json", in_json(V2)))], 200),
    ("PUT", "/v1/characters/{mira}/card", {"scenario": "Night."}, 200),
    ("POST", "/v1/characters/{mira}/revisions/1/restorations", None, 200),
    ("POST", "/v1/trash/{gone}/restorations", None, 200),
    ("DELETE", "/v1/trash/{gone}", None, 204),
    ("POST", "/v1/characters/{otto}/relationships", {"target": "{mira}", "type": "friend_of"}, 200),
    ("PATCH", "/v1/relationships/{tie}", {"attitude": 7}, 200),
    ("DELETE", "/v1/relationships/{tie}", None, 204),
    ("POST", "/v1/templates", {"name": "New", "attribute_schema": FIGHTER}, 200),
    ("PATCH", "/v1/templates/{template}", {"name": "Other"}, 200),
    ("DELETE", "/v1/templates/{template}", None, 204),
    ("POST", "/v1/templates/{template}/copies", {}, 200),
    ("POST", "/v1/templates/{template}/versions", {"attribute_schema": FIGHTER}, 200),
    ("PUT", "/v1/templates/{template}/versions/2/publication", None, 200),
    ("PUT", "/v1/templates/{template}/versions/1/deprecation", None, 200),
    ("POST", "/v1/templates/{template}/versions/3/migration", None, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WRITES)
async def test_a_dry_run_answers_as_the_write_would_and_writes_nothing(
    alice: Client, there: dict[str, Any], method: str, path: str, body: Any, status: int
) -> None:
    given = _given(body, there)
    before = await everything()
    dry = await alice.request(method, path.format(**there), **given, params=DRY)
    assert dry.status_code == status, dry.text
    assert not {"location", "etag"} & dry.headers.keys()
    assert await everything() == before
    real = await alice.request(method, path.format(**there), **given, params={"dry_run": "false"})
    assert real.status_code in ((201, 200) if status == 200 else (204,))
    assert await everything() != before
    if status == 200:
        assert dry.json().keys() == real.json().keys()


def _given(body: Any, there: dict[str, Any]) -> dict[str, Any]:
    if isinstance(body, bytes | list):
        return {"content" if isinstance(body, bytes) else "files": body}
    return {"json": _named(body, there)}


def _named(body: Any, there: dict[str, Any]) -> Any:
    """``body`` with ids in place of names."""
    return {name: there.get(str(value).strip("{}"), value) for name, value in body.items()} if body else body


async def test_a_dry_run_returns_the_whole_body(alice: Client) -> None:
    dry = await alice.post("/v1/characters", json={"name": "Mira", "tags": ["night"]}, params=DRY)
    real = await alice.post("/v1/characters", json={"name": "Mira", "tags": ["night"]})
    varying = {"id", "created_at", "updated_at"}
    assert {**dry.json(), **dict.fromkeys(varying)} == {**real.json(), **dict.fromkeys(varying)}


async def test_a_change_in_a_dry_run_sees_what_it_wrote(alice: Client) -> None:
    mira = await character(alice)
    dry = await alice.patch(f"/v1/characters/{mira['id']}", json={"name": "Other"}, params=DRY)
    assert (dry.json()["name"], dry.json()["version"]) == ("Other", 2)
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json() == mira


async def test_a_dry_run_is_refused_as_the_write_would_be(app: Any, alice: Client, charlie: Client) -> None:
    fighters = await template(alice)
    invalid = {"name": "", "template": fighters["id"]}
    dry = await alice.post("/v1/characters", json=invalid, params=DRY)
    assert (dry.status_code, faults(dry)) == (422, {"/name": "Must be at least 1 character."})
    weak = await alice.post(
        "/v1/characters", json={"name": "Weak", "template": fighters["id"], "attributes": {"strength": 0}}, params=DRY
    )
    assert (weak.status_code, faults(weak).keys()) == (422, {"/attributes/strength"})
    mira, otto = await public(alice), await character(alice)
    await relationship(alice, mira, otto)
    again = {"target": otto["id"], "type": "parent_of"}
    assert (await alice.post(f"/v1/characters/{mira['id']}/relationships", json=again, params=DRY)).status_code == 409
    address = f"/v1/characters/{mira['id']}"
    stale = {"If-Match": f'"{mira["id"]}-7"'}
    assert (await alice.patch(address, json={"name": "A"}, params=DRY, headers=stale)).status_code == 412
    assert (await charlie.patch(address, json={"name": "A"}, params=DRY)).status_code == 403
    reader = await with_key(app, alice, "characters:read")
    assert (await reader.patch(address, json={"name": "A"}, params=DRY)).status_code == 403


async def test_a_dry_run_needs_a_token(stranger: Client) -> None:
    assert (await stranger.post("/v1/characters", json={"name": "Mira"}, params=DRY)).status_code == 401


@pytest.mark.parametrize("query", ["dry%5Frun=%74rue", "dry_run=tru%65"])
async def test_spellings_of_the_dry_run_parameter(alice: Client, query: str) -> None:
    dry = await alice.post(f"/v1/characters?{query}", json={"name": "Mira"})
    assert dry.status_code == 200
    assert (await alice.get("/v1/characters")).json()["items"] == []


@pytest.mark.parametrize("query", ["dry_run=", "dry_run=True", "dry_run=1", "dry_run", "dry_run=true&dry_run=false"])
async def test_a_dry_run_that_is_not_clearly_one_is_refused(alice: Client, query: str) -> None:
    refused = await alice.post(f"/v1/characters?{query}", json={"name": "Mira"})
    assert (refused.status_code, faults(refused).keys()) == (400, {"dry_run"})
    assert (await alice.get("/v1/characters")).json()["items"] == []


async def test_reads_refuse_the_dry_run_parameter(alice: Client) -> None:
    for method, path in [("GET", "/v1/characters"), ("POST", "/v1/api-keys"), ("PATCH", "/v1/users/me")]:
        refused = await alice.request(method, path, params=DRY, json=None if method == "GET" else {})
        assert (refused.status_code, faults(refused)) == (400, {"dry_run": "Is not a known parameter."}), path


def test_every_write_of_the_domain_has_dry_runs_and_is_tried_here() -> None:
    writes = {row.route for row in ROWS if row.needs.endswith(":write")}
    assert writes == routes_with("dry-run")
    assert {route_of(method, path) for method, path, _, _ in WRITES} == writes, "add an example to WRITES"


async def test_a_dry_run_releases_its_connection(alice: Client) -> None:
    for _ in range(30):  # more than there are connections
        assert (await alice.post("/v1/characters", json={"name": "Mira"}, params=DRY)).status_code == 200
        assert (await alice.post("/v1/characters", json={"name": ""}, params=DRY)).status_code == 422
    assert DB.pool is not None
    assert DB.idle_connections() == DB.pool.get_size()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/characters", {"name": "New", "template": "{template}"}),
        ("/v1/templates/{template}/copies", {}),
        ("/v1/characters/{mira}/copies", {}),
        ("/v1/templates/{template}/versions", {"attribute_schema": FIGHTER}),  # which is refused
    ],
)
async def test_a_dry_run_of_others_does_not_keep_the_owner_waiting(
    alice: Client, charlie: Client, there: dict[str, Any], monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    for own in (f"/v1/templates/{there['template']}", f"/v1/characters/{there['mira']}"):
        assert (await alice.patch(own, json={"visibility": "public"})).status_code == 200
    begun, release = asyncio.Event(), asyncio.Event()
    answer = Writes._answer

    async def answer_and_hold(self: Writes, request: Any) -> Any:
        answered = await answer(self, request)
        if request.user.username == "charlie":
            begun.set()
            await release.wait()
        return answered

    monkeypatch.setattr(Writes, "_answer", answer_and_hold)
    dry = asyncio.create_task(charlie.post(path.format(**there), json=_named(body, there), params=DRY))
    await asyncio.wait_for(begun.wait(), 5)
    found = {
        call: (await alice.request(*call.format(**there).split(), json=given)).status_code
        for call, given in {
            "PATCH /v1/templates/{template}": {"name": "Other"},
            "POST /v1/templates/{template}/versions": {"attribute_schema": FIGHTER},
            "PUT /v1/templates/{template}/versions/2/publication": None,
            "PUT /v1/templates/{template}/versions/1/deprecation": None,
            "DELETE /v1/templates/{template}": None,
            "PATCH /v1/characters/{mira}": {"name": "Other"},
            "DELETE /v1/characters/{mira}": None,
        }.items()
    }
    release.set()
    await dry
    assert list(found.values()) == [200, 201, 200, 200, 204, 200, 204], found
