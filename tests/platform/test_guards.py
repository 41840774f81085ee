"""Guards of every `/v1` route: tokens, scopes, known parameters. `tests/support/routes.py` says who may call what."""

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from service.auth import token_cache
from service.auth.queries import find_caller
from service.auth.secrets import new_token
from service.limits.rate_limits import TOKEN_LOOK_UPS
from tests.conftest import client, with_key
from tests.support.routes import ROWS, V1

Client = httpx.AsyncClient

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
TOKEN_IGNORED = {
    "GET /v1/relationship-types", "GET /v1/users/{username}", "GET /v1/users/{username}/avatar",
    "POST /v1/email-verifications", "POST /v1/password-resets", "POST /v1/sessions", "POST /v1/users",
    "PUT /v1/email-verifications", "PUT /v1/password-resets",
}  # fmt: skip
SESSION_ONLY = {row.route for row in ROWS if row.needs == "session"}


async def statuses(member: Client, routes: Iterable[str]) -> dict[str, int]:
    """The response of each route to a call without a body."""
    found = {}
    for route in routes:
        method, path = route.format(**EXAMPLES).split()
        found[route] = (await member.request(method, path)).status_code
    return found


async def test_a_stranger_is_told_how_to_call(stranger: Client) -> None:
    answer = await stranger.get("/v1/users/me")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "/problems/unauthorized"


async def test_an_invalid_token_is_refused_wherever_a_valid_one_shows_more(app: Any) -> None:
    pretender = client(app, Authorization="Bearer chs_invalid")
    found = await statuses(pretender, V1)
    assert {route for route, status in found.items() if status != 401} == TOKEN_IGNORED


async def test_a_key_without_the_scope_of_a_route_is_refused(app: Any, alice: Client) -> None:
    for scope in sorted(SCOPES):
        program = await with_key(app, alice, *sorted(SCOPES - {scope}))
        needing = {row.route for row in ROWS if row.needs == scope}
        refused = {route for route, status in (await statuses(program, V1)).items() if status == 403}
        assert needing
        assert refused == needing | SESSION_ONLY


async def test_a_refusal_names_the_scope(app: Any, alice: Client) -> None:
    program = await with_key(app, alice, "characters:read")
    problem = (await program.post("/v1/characters", json={"name": "Mira"})).json()
    assert problem["type"] == "/problems/forbidden"
    assert problem["detail"] == "This API key lacks the scope characters:write."


async def test_a_key_with_every_scope_never_reaches_the_account(app: Any, alice: Client) -> None:
    program = await with_key(app, alice, *sorted(SCOPES))
    refused = {route for route, status in (await statuses(program, V1)).items() if status == 403}
    assert refused == SESSION_ONLY


async def test_every_route_refuses_parameters_that_it_does_not_declare(alice: Client) -> None:
    routes = V1 - {"DELETE /v1/sessions", "DELETE /v1/sessions/current"}
    for route in routes:
        method, path = route.format(**EXAMPLES).split()
        answer = await alice.request(method, f"{path}?colour=red")
        assert answer.status_code == 400, route
        assert answer.json()["errors"] == [{"detail": "Is not a known parameter.", "parameter": "colour"}], route


async def test_no_path_is_too_strange(alice: Client) -> None:
    strange = ["%00", "%0A", "%7F", "%F0%9F", "%2F..%2F", "a" * 4_000, "-1", "' OR 1=1 --", "{}", "*"]
    for route in sorted(route for route in V1 if "{" in route):
        for text in strange:
            method, path = route.format(**dict.fromkeys(EXAMPLES, text)).split(maxsplit=1)
            answer = await alice.request(method, path)
            assert answer.status_code < 500, (route, text[:20])


async def test_tokens_above_the_limit_are_refused_before_the_database_is_asked(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = 0

    async def look_up(token: str) -> Any:
        nonlocal looked_up
        looked_up += 1
        return await find_caller(token)

    monkeypatch.setattr(token_cache, "find_caller", look_up)
    monkeypatch.setitem(vars(TOKEN_LOOK_UPS), "most", 2)
    found = []
    async with client(app, "203.0.113.77") as flood:
        for _ in range(4):
            answer = await flood.get("/v1/characters", headers={"Authorization": f"Bearer {new_token('key')}"})
            found.append((answer.status_code, looked_up))
    assert found == [(401, 1), (401, 2), (429, 2), (429, 2)]
