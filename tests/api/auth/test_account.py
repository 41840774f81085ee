"""Accounts: a new password, and leaving."""

from typing import Any

import httpx
import pytest

from service.auth.tables import Token
from tests.conftest import PASSWORD, character, client, create, faults, with_key

Client = httpx.AsyncClient

NEW = "another long password"
KEY: dict[str, Any] = {"name": "n", "scopes": ["characters:read"]}
CHANGE = {"current_password": PASSWORD, "new_password": NEW}


async def leave(member: Client, **body: Any) -> httpx.Response:
    return await member.request("DELETE", "/v1/users/me", json=body)


async def sign_in(member: Client, password: str) -> int:
    return (await member.post("/v1/sessions", json={"login": "alice", "password": password})).status_code


async def test_a_new_password_replaces_the_old_one(alice: Client, stranger: Client) -> None:
    changed = await alice.put("/v1/users/me/password", json=CHANGE)
    assert (changed.status_code, changed.content) == (204, b"")
    assert await sign_in(stranger, PASSWORD) == 401
    assert await sign_in(stranger, NEW) == 201


async def test_a_new_password_ends_the_other_sessions_but_no_key(app: Any, alice: Client) -> None:
    session = await create(client(app), "/v1/sessions", login="alice", password=PASSWORD)
    phone = client(app, Authorization=f"Bearer {session['token']}")
    program = await with_key(app, alice, "characters:read")
    assert (await phone.get("/v1/users/me")).status_code == 200
    await alice.put("/v1/users/me/password", json=CHANGE)
    assert (await phone.get("/v1/users/me")).status_code == 401
    assert (await alice.get("/v1/users/me")).status_code == 200
    assert (await program.get("/v1/characters")).status_code == 200


async def test_the_wrong_current_password_changes_nothing(alice: Client, stranger: Client) -> None:
    refused = await alice.put("/v1/users/me/password", json=CHANGE | {"current_password": NEW})
    assert refused.status_code == 403
    assert await sign_in(stranger, PASSWORD) == 201


async def test_a_refused_password_is_pointed_at(alice: Client) -> None:
    wrong = "not the right one"
    for method, path, body, member in (
        ("POST", "/v1/api-keys", KEY, "current_password"),
        ("PATCH", "/v1/users/me", {"email": "new@example.org"}, "current_password"),
        ("PUT", "/v1/users/me/password", {"new_password": NEW}, "current_password"),
        ("DELETE", "/v1/users/me", {}, "password"),
    ):
        refused = await alice.request(method, path, json=body | {member: wrong})
        assert (refused.status_code, faults(refused)) == (403, {f"/{member}": "Is not right."}), path


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"/current_password": "Is required.", "/new_password": "Is required."}),
        (CHANGE | {"new_password": "short"}, {"/new_password": "Must be at least 10 characters."}),
        (
            CHANGE | {"new_password": "ALICE@example.org"},
            {"/new_password": "Must not be your own name or e-mail address."},
        ),
        (CHANGE | {"new_password": "a long one\0"}, {"/new_password": "Must not contain the NUL character."}),
        (CHANGE | {"username": "eve"}, {"/username": "Is not a known field."}),
    ],
)
async def test_a_new_password_is_refused(alice: Client, body: dict[str, Any], expected: dict[str, str]) -> None:
    answer = await alice.put("/v1/users/me/password", json=body)
    assert answer.status_code == 422
    assert faults(answer) == expected


async def test_a_deleted_account_is_gone_at_once(app: Any, alice: Client, stranger: Client) -> None:
    program = await with_key(app, alice, "characters:read")
    assert (await leave(alice, password=PASSWORD)).status_code == 204
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await program.get("/v1/characters")).status_code == 401
    assert await sign_in(stranger, PASSWORD) == 401
    assert (await stranger.get("/v1/users/alice")).status_code == 404
    assert await Token.count() == 0


async def test_deleting_an_account_needs_the_password(alice: Client) -> None:
    assert (await leave(alice, password="not the right one")).status_code == 403
    assert faults(await leave(alice)) == {"/password": "Is required."}
    without_body = await alice.delete("/v1/users/me")
    assert (without_body.status_code, without_body.json()["detail"]) == (400, "The body is missing.")
    assert (await alice.get("/v1/users/me")).status_code == 200


async def test_deleting_one_account_leaves_others_unchanged(alice: Client, charlie: Client) -> None:
    made = await character(charlie, name="Stays")
    await leave(alice, password=PASSWORD)
    assert (await charlie.get(f"/v1/characters/{made['id']}")).status_code == 200
