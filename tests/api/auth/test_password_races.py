"""An action that needs the password is refused if the password changes between its check and the action."""

import asyncio
from contextvars import Context
from typing import Any

import httpx
import pytest

from service.auth import queries as sessions
from service.auth.email_links import mint_token
from service.users import credentials as users
from service.users.tables import User
from tests.conftest import PASSWORD

Client = httpx.AsyncClient

FORGOTTEN = "a password after the reset"
KEY = {"name": "CI", "scopes": ["characters:read"], "current_password": PASSWORD}
WAYS: list[tuple[Any, str, str, Any, int]] = [
    (users, "PUT", "/v1/users/me/password", {"current_password": PASSWORD, "new_password": "the squatter's own"}, 403),
    (users, "PATCH", "/v1/users/me", {"email": "eve@example.org", "current_password": PASSWORD}, 403),
    (users, "POST", "/v1/api-keys", KEY, 403),
    (users, "DELETE", "/v1/users/me", {"password": PASSWORD}, 403),
    (sessions, "POST", "/v1/sessions", {"login": "alice", "password": PASSWORD}, 401),
]


async def sign_in(stranger: Client, password: str) -> int:
    return (await stranger.post("/v1/sessions", json={"login": "alice", "password": password})).status_code


@pytest.mark.parametrize(
    ("module", "method", "path", "body", "status"), WAYS, ids=[f"{way[1]} {way[2]}" for way in WAYS]
)
async def test_a_reset_in_between_wins(
    alice: Client,
    stranger: Client,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    method: str,
    path: str,
    body: Any,
    status: int,
) -> None:
    minted = await mint_token("reset", "alice@example.org", again=True)
    assert minted is not None
    reset = {"token": minted.token, "password": FORGOTTEN}
    matches = module.password_matches

    async def match_then_reset(*given: Any) -> Any:
        found = await matches(*given)
        monkeypatch.setattr(module, "password_matches", matches)
        request = stranger.put("/v1/password-resets", json=reset)
        assert (await asyncio.create_task(request, context=Context())).status_code == 204
        return found

    monkeypatch.setattr(module, "password_matches", match_then_reset)
    assert (await alice.request(method, path, json=body)).status_code == status
    assert await sign_in(stranger, FORGOTTEN) == 201
    assert await sign_in(stranger, PASSWORD) == 401
    account = await User.select(User.email, User.status, User.deleted_at).first()
    assert account == {"email": "alice@example.org", "status": "active", "deleted_at": None}
    keys = await stranger.post("/v1/sessions", json={"login": "alice", "password": FORGOTTEN})
    bearer = {"Authorization": f"Bearer {keys.json()['token']}"}
    assert (await stranger.get("/v1/api-keys", headers=bearer)).json() == {"items": []}


async def test_of_changes_at_once_one_is_made(alice: Client, stranger: Client) -> None:
    changes = [{"current_password": PASSWORD, "new_password": f"another long password {number}"} for number in range(3)]
    answers = await asyncio.gather(*(alice.put("/v1/users/me/password", json=change) for change in changes))
    assert sorted(answer.status_code for answer in answers) == [204, 403, 403]
    made = [answer.status_code for answer in answers].index(204)
    assert await sign_in(stranger, changes[made]["new_password"]) == 201
