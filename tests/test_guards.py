"""Who may call what: no `/v1` route is open by accident, and no key does more than its scopes say."""

from collections.abc import Iterable
from typing import Any

import httpx

from service.app import app as application
from tests.conftest import client, with_key

Client = httpx.AsyncClient

# Open to strangers. A route that is added here is read by everybody: think twice.
PUBLIC = {
    "POST /v1/users",
    "GET /v1/users/{username}",
    "GET /v1/users/{username}/avatar",
    "POST /v1/sessions",
    "POST /v1/email-verifications",
    "PUT /v1/email-verifications/{token}",
    "POST /v1/password-resets",
    "PUT /v1/password-resets/{token}",
    "GET /v1/templates",
    "GET /v1/templates/{template_id}",
    "GET /v1/templates/{template_id}/versions",
    "GET /v1/templates/{template_id}/versions/{number}",
    "GET /v1/templates/{template_id}/versions/{number}/schema",
    "GET /v1/templates/{template_id}/versions/{number}/changes",
    "GET /v1/templates/{template_id}/usage",
    "GET /v1/characters",
    "GET /v1/characters/{character_id}",
    "GET /v1/characters/{character_id}/card",
    "GET /v1/characters/{character_id}/graph",
    "GET /v1/characters/{character_id}/portrait",
    "GET /v1/characters/{character_id}/prompt",
    "GET /v1/characters/{character_id}/relationships",
    "GET /v1/characters/{character_id}/validation",
    "GET /v1/relationships/{relationship_id}",
    "GET /v1/relationship-types",
}

# Closed to every API key, whatever its scopes.
SESSION_ONLY = {
    "POST /v1/sessions",
    "POST /v1/email-verifications",
    "PUT /v1/email-verifications/{token}",
    "POST /v1/password-resets",
    "PUT /v1/password-resets/{token}",
    "GET /v1/sessions",
    "DELETE /v1/sessions",
    "DELETE /v1/sessions/current",
    "DELETE /v1/sessions/{session_id}",
    "POST /v1/api-keys",
    "GET /v1/api-keys",
    "GET /v1/api-keys/{key_id}",
    "DELETE /v1/api-keys/{key_id}",
    "PUT /v1/users/me/password",
    "DELETE /v1/users/me",
    "GET /v1/users/me/export",
    "GET /v1/users/me",
    "PATCH /v1/users/me",
    "PUT /v1/users/me/avatar",
    "GET /v1/users/me/avatar",
    "DELETE /v1/users/me/avatar",
}

# Open to every API key.
WITHOUT_SCOPE = {
    "POST /v1/users",
    "GET /v1/users/{username}",
    "GET /v1/users/{username}/avatar",
    "GET /v1/relationship-types",
}

# Below /v1/templates, but it is characters that it writes.
MIGRATION = "POST /v1/templates/{template_id}/versions/{number}/migration"

ENDINGS = {"DELETE /v1/sessions", "DELETE /v1/sessions/current"}  # of the session that is asked with

SCOPES = {"characters:read", "characters:write", "templates:read", "templates:write"}
EXAMPLES = {
    "number": "1",
    "username": "nobody",
    "token": "nothing",
    **dict.fromkeys(
        ["template_id", "character_id", "relationship_id", "session_id", "key_id"],
        "0199a0a0-0000-7000-8000-000000000000",
    ),
}
ROUTES = {
    f"{method} {route.path_format}"
    for route in application.routes
    if route.path.startswith("/v1")
    for method in route.methods - {"OPTIONS"}
}


def scope_of(route: str) -> str | None:
    """What an API key needs for it."""
    if route in WITHOUT_SCOPE | SESSION_ONLY:
        return None
    method, path = route.split()
    kind = "templates" if path.startswith("/v1/templates") and route != MIGRATION else "characters"
    return f"{kind}:{'read' if method == 'GET' else 'write'}"


async def statuses(member: Client, routes: Iterable[str]) -> dict[str, int]:
    """What each route answers when it is called without a body."""
    found = {}
    for route in routes:
        method, path = route.format(**EXAMPLES).split()
        found[route] = (await member.request(method, path)).status_code
    return found


def test_the_tables_name_routes_that_exist() -> None:
    assert PUBLIC | SESSION_ONLY | WITHOUT_SCOPE <= ROUTES


async def test_a_stranger_reaches_what_is_public_and_nothing_else(stranger: Client) -> None:
    refused = {route for route, status in (await statuses(stranger, ROUTES)).items() if status == 401}
    assert ROUTES - refused == PUBLIC


async def test_a_stranger_is_told_how_to_call(stranger: Client) -> None:
    answer = await stranger.get("/v1/users/me")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "/problems/unauthorized"


async def test_an_invalid_token_is_refused_on_public_routes_too(app: Any) -> None:
    pretender = client(app, Authorization="Bearer chs_invalid")
    assert set((await statuses(pretender, ROUTES)).values()) == {401}


async def test_a_member_is_refused_nowhere_before_the_body_is_read(alice: Client) -> None:
    found = await statuses(alice, ROUTES - ENDINGS)
    assert not {route for route, status in found.items() if status in (401, 403, 405) or status >= 500}


async def test_a_key_lacking_a_scope_is_refused_what_needs_it(app: Any, alice: Client) -> None:
    for scope in sorted(SCOPES):
        program = await with_key(app, alice, *sorted(SCOPES - {scope}))
        needing = {route for route in ROUTES if scope_of(route) == scope}
        refused = {route for route, status in (await statuses(program, ROUTES)).items() if status == 403}
        assert needing
        assert refused == needing | SESSION_ONLY


async def test_a_refusal_names_the_scope(app: Any, alice: Client) -> None:
    program = await with_key(app, alice, "characters:read")
    problem = (await program.post("/v1/characters", json={"name": "Mira"})).json()
    assert problem["type"] == "/problems/forbidden"
    assert problem["detail"] == "This API key lacks the scope characters:write."


async def test_a_key_that_may_only_read_writes_nothing(app: Any, alice: Client) -> None:
    reader = await with_key(app, alice, "characters:read", "templates:read")
    writing = {route for route in ROUTES if not route.startswith("GET")}
    refused = {route for route, status in (await statuses(reader, writing)).items() if status == 403}
    assert writing - refused == {"POST /v1/users"}


async def test_a_key_with_every_scope_never_reaches_the_account(app: Any, alice: Client) -> None:
    program = await with_key(app, alice, *sorted(SCOPES))
    refused = {route for route, status in (await statuses(program, ROUTES)).items() if status == 403}
    assert refused == SESSION_ONLY


async def test_every_route_refuses_parameters_that_it_does_not_declare(alice: Client) -> None:
    routes = ROUTES - ENDINGS
    for route in routes:
        method, path = route.format(**EXAMPLES).split()
        answer = await alice.request(method, f"{path}?colour=red")
        assert answer.status_code == 400, route
        assert answer.json()["errors"] == [{"detail": "Is not a known parameter.", "parameter": "colour"}], route


async def test_no_path_is_too_strange(alice: Client) -> None:
    strange = ["%00", "%0A", "%7F", "%F0%9F", "%2F..%2F", "a" * 10_000, "-1", "' OR 1=1 --", "{}", "*"]
    for route in sorted(route for route in ROUTES if "{" in route):
        for text in strange:
            method, path = route.format(**dict.fromkeys(EXAMPLES, text)).split(maxsplit=1)
            answer = await alice.request(method, path)
            assert answer.status_code < 500, (route, text[:20])
