"""Every route in front of every caller, as tests/support/routes.py says."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.auth.suspensions import suspend_user
from service.auth.token_cache import forget_tokens
from service.commands.purge import purge_everything
from service.database import failures
from service.database.engine import DB
from service.parameters import ListQuery, PageQuery
from service.users.tables import User
from service.web.query import query_of
from tests.conftest import FIGHTER, PASSWORD, account_id, character, client, create, relationship, template, with_key
from tests.support.cards import V3, in_json
from tests.support.pictures import give_portrait
from tests.support.routes import BODIES, CALLERS, HANDLERS, ROUTES, ROWS, V1, routes_with

Client = httpx.AsyncClient

LONG_AGO = datetime.now(UTC) - timedelta(days=31)
READS = [row.route for row in ROWS if row.route.startswith("GET /v1") and "_id}" in row.route]
TRASHED = {"POST /v1/trash/{character_id}/restorations": "restored_id", "DELETE /v1/trash/{character_id}": "trashed_id"}
SIGNING_OUT = {"DELETE /v1/sessions/current", "DELETE /v1/sessions"}


def test_every_route_is_in_the_table_once() -> None:
    rows = Counter(row.route for row in ROWS)
    assert sorted(ROUTES - rows.keys()) == [], "add these routes to the table in tests/support/routes.py"
    assert sorted(rows.keys() - ROUTES) == [], "the app has no such routes: remove them from tests/support/routes.py"
    assert [route for route, count in rows.items() if count > 1] == [], "they are in the table more than once"


def test_the_properties_are_those_of_the_handlers() -> None:
    found: dict[str, set[str]] = {"dry-run": set(), "if-match": set(), "key": set(), "list": set()}
    for route in V1:
        handler = HANDLERS[route]
        has = {
            "dry-run": handler.opt.get("dry_run"),
            "if-match": "if_match" in handler.parsed_fn_signature.parameters,
            "key": handler.opt.get("idempotent"),
            "list": issubclass(query_of(handler), ListQuery | PageQuery),
        }
        for name in found:
            if has[name]:
                found[name].add(route)
    assert {name: routes_with(name) for name in found} == found
    assert {name for row in ROWS for name in row.properties} == {*found, "ends", "etag", "tells"}


@pytest.mark.parametrize("visibility", ["private", "public"])
@pytest.mark.parametrize("caller", CALLERS)
async def test_each_route_answers_each_caller_as_declared(
    app: Any, alice: Client, charlie: Client, caller: str, visibility: str
) -> None:
    ids = await belongings(alice, visibility)
    before = await all_of(alice, ids)
    member = {
        "stranger": client(app),
        "owner": alice,
        "other": charlie,
        "key": await with_key(app, alice, "characters:read", "templates:read"),
        "suspended": await signed_in_again(app, "alice"),
    }[caller]
    whose = charlie if caller == "other" else alice
    ids["target"] = (await character(whose))["id"]
    if caller == "suspended":
        await suspend_user(await account_id("alice"))
        forget_tokens()
    found, tagged = {}, set()
    for row in ROWS:
        answer = await call(member, row.route, ids)
        found[row.route] = answer.status_code
        if row.route.startswith("GET /v1") and "etag" in answer.headers:
            tagged.add(row.route)
        if row.route in SIGNING_OUT and caller in ("owner", "other"):
            member = await signed_in_again(app, "charlie" if caller == "other" else "alice")
    assert found == {row.route: row.answer(caller, visibility) for row in ROWS}
    if caller == "owner":
        assert tagged == routes_with("etag")
    if caller in ("stranger", "other", "key"):
        assert await all_of(alice, ids) == before


async def test_an_invalid_token_is_ignored_where_none_is_needed(app: Any, alice: Client) -> None:
    """A route of which an API key needs a scope may show more to a caller, so it refuses the token."""
    ids = await belongings(alice, "public")
    ids["target"] = (await character(alice))["id"]
    stale = client(app, Authorization=alice.headers["Authorization"][:-1] + "!")
    ended = await signed_in_again(app, "alice")
    assert (await ended.delete("/v1/sessions/current")).status_code == 204
    expected = {}
    for row in ROWS:
        if row.route in V1:
            needs_token = ":" in row.needs or row.answer("stranger", "public") == 401
            expected[row.route] = 401 if needs_token else row.answer("stranger", "public")
    assert {route: (await call(stale, route, ids)).status_code for route in expected} == expected
    reads = [route for route in expected if route.startswith("GET")]
    assert {route: (await call(ended, route, ids)).status_code for route in reads} == {
        route: expected[route] for route in reads
    }


# Routes that create rows of the caller, or read or change their account
OF_THE_CALLER = {
    *("GET /v1/users/me", "PATCH /v1/users/me", "PUT /v1/users/me/avatar", "DELETE /v1/users/me/avatar"),
    *("PUT /v1/users/me/password", "DELETE /v1/users/me", "POST /v1/api-keys"),
    *("POST /v1/characters", "POST /v1/characters/{character_id}/copies", "POST /v1/characters/bulk"),
    *("POST /v1/imports", "POST /v1/templates", "POST /v1/templates/{template_id}/copies"),
    "DELETE /v1/trash/{character_id}",
}


@pytest.mark.parametrize("how", ["plainly", "with a key", "dry"])
async def test_a_purged_user_is_told_that_the_token_has_ended(
    alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """For a few seconds it is remembered, but whom it belonged to is gone."""
    ids = await belongings(alice, "public")
    ids["target"] = (await character(alice))["id"]
    monkeypatch.setitem(BODIES, "POST /v1/imports", in_json(V3))
    monkeypatch.setitem(BODIES, "DELETE /v1/users/me", {"password": PASSWORD})
    assert (await charlie.get("/v1/users/me")).status_code == 200
    await User.update({User.deleted_at: LONG_AGO}).where(User.username == "charlie")
    await purge_everything()
    routes = {"plainly": V1 - SIGNING_OUT, "with a key": routes_with("key"), "dry": routes_with("dry-run")}[how]
    if how == "with a key":
        charlie.headers["Idempotency-Key"] = "1"
    query = "?dry_run=true" if how == "dry" else ""
    answers = {row.route: await call(charlie, row.route, ids, query) for row in ROWS if row.route in routes}
    assert {route for route, answer in answers.items() if answer.status_code >= 500} == set()
    ended = {route for route, answer in answers.items() if answer.status_code == 401}
    assert ended == (routes if how == "with a key" else routes & OF_THE_CALLER)
    assert {answers[route].json()["detail"] for route in ended} == {"The token has expired or was revoked."}


async def test_every_reference_to_a_user_is_one_that_a_purge_may_break(app: Any) -> None:
    names = await DB._run_in_pool(
        "SELECT conname::text AS name FROM pg_constraint WHERE contype = 'f' AND confrelid = 'users'::regclass"
    )
    assert {row["name"] for row in names} == failures._OF_A_USER


async def belongings(alice: Client, visibility: str) -> dict[str, str]:
    """The ids of one of each that Alice has."""
    fighter = await template(alice, visibility=visibility)
    await create(alice, f"/v1/templates/{fighter['id']}/versions", attribute_schema=FIGHTER)
    mira, sol, *gone = [await character(alice, visibility=visibility, template=fighter["id"]) for _ in range(4)]
    for each in gone:
        assert (await alice.delete(f"/v1/characters/{each['id']}")).status_code == 204
    await User.update({User.avatar: await give_portrait(mira)}).where(User.username == "alice")
    key = await create(alice, "/v1/api-keys", name="CI", scopes=["characters:read"], current_password=PASSWORD)
    session = await create(alice, "/v1/sessions", login="alice", password=PASSWORD)
    return {
        "template_id": fighter["id"],
        "number": "1",
        "character_id": mira["id"],
        "restored_id": gone[0]["id"],
        "trashed_id": gone[1]["id"],
        "relationship_id": (await relationship(alice, mira, sol))["id"],
        "key_id": key["id"],
        "session_id": session["id"],
        "username": "alice",
        "name": "unknown.webp",
        "slug": "not-found",
        "path": "nowhere",
        "file_path": "swagger-ui.css",
    }


async def signed_in_again(app: Any, username: str) -> Client:
    session = await create(client(app), "/v1/sessions", login=username, password=PASSWORD)
    return client(app, Authorization=f"Bearer {session['token']}")


async def all_of(alice: Client, ids: dict[str, str]) -> list[Any]:
    answers = [await call(alice, route, ids) for route in ["GET /v1/trash", *READS]]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


async def call(member: Client, route: str, ids: dict[str, str], query: str = "") -> httpx.Response:
    if route in TRASHED:
        ids = ids | {"character_id": ids[TRASHED[route]]}
    method, path = route.format(**ids).split()
    body = BODIES.get(route, {} if method in ("POST", "PATCH") else None)
    given: Any = {"files": {"file": body}} if isinstance(body, bytes) else {"json": filled(body, ids)}
    return await member.request(method, path + query, **given)


def filled(body: Any, ids: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: filled(value, ids) for name, value in body.items()}
    if isinstance(body, list):
        return [filled(value, ids) for value in body]
    return body.format(**ids) if isinstance(body, str) else body
