"""Sessions and API keys: signing in, what opens the API, and what ends."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import pytest

from service.auth.tables import Token
from service.auth.token_cache import forget_tokens
from service.database import embedded
from service.users.tables import User
from tests.conftest import DATA_DIR, PASSWORD, client, create, faults, signed_in, with_key
from tests.support.locks import until_waiting
from tests.support.servers import ROOT

Client = httpx.AsyncClient

KEYS = "/v1/api-keys"
KEY = {"name": "CI", "scopes": ["characters:read"], "current_password": PASSWORD}
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize("login", ["alice", "ALICE", "alice@example.org", "Alice@Example.org"])
async def test_sign_in_with_username_or_email(alice: Client, stranger: Client, login: str) -> None:
    session = await create(stranger, "/v1/sessions", login=login, password=PASSWORD)
    assert session.keys() == {"id", "token", "expires_at", "user"}
    assert session["token"].startswith("chs_")
    assert session["user"] == (await alice.get("/v1/users/me")).json()


async def test_a_refused_sign_in_does_not_say_why(alice: Client, stranger: Client) -> None:
    refused = [
        await stranger.post("/v1/sessions", json={"login": login, "password": "a wrong password"})
        for login in ("alice", "alice@example.org", "nobody", "' OR 1=1 --")
    ]
    assert {answer.status_code for answer in refused} == {401}
    assert {answer.json()["detail"] for answer in refused} == {"The login or the password is not right."}
    assert refused[0].headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        ({}, {"/login", "/password"}),
        ({"login": "", "password": "x" * 257}, {"/login", "/password"}),
        ({"login": "a\0", "password": "x"}, {"/login"}),
        ({"login": "alice", "password": PASSWORD, "remember": True}, {"/remember"}),
        ({"login": ["alice"], "password": None}, {"/login", "/password"}),
    ],
)
async def test_sign_in_refuses(stranger: Client, given: dict[str, Any], pointers: set[str]) -> None:
    answer = await stranger.post("/v1/sessions", json=given)
    assert answer.status_code == 422
    assert faults(answer).keys() == pointers


async def test_sessions_are_listed_newest_first_with_their_device(alice: Client, stranger: Client) -> None:
    login = {"login": "alice", "password": PASSWORD}
    await stranger.post("/v1/sessions", json=login, headers={"User-Agent": "Phone"})
    sessions = (await alice.get("/v1/sessions")).json()["items"]
    assert [session["current"] for session in sessions] == [False, True]
    assert sessions[0]["device"] == "Phone"
    assert "token" not in sessions[0]


async def test_a_sign_in_above_the_most_sessions_ends_the_oldest(
    app: Any, alice: Client, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.auth.queries.MAX_SESSIONS", 2)
    await with_key(app, alice, "characters:read")
    second, third = [await create(stranger, "/v1/sessions", login="alice", password=PASSWORD) for _ in range(2)]
    member = client(app, Authorization=f"Bearer {third['token']}")
    assert [each["id"] for each in (await member.get("/v1/sessions")).json()["items"]] == [third["id"], second["id"]]
    assert len((await member.get("/v1/api-keys")).json()["items"]) == 1
    forget_tokens()
    assert (await alice.get("/v1/users/me")).status_code == 401


async def test_a_device_may_have_any_name(alice: Client, stranger: Client) -> None:
    login = {"login": "alice", "password": PASSWORD}
    made = await stranger.post("/v1/sessions", json=login, headers={"User-Agent": b"\xff\x01\x00" * 300})
    assert made.status_code == 201


async def test_signing_out_ends_only_this_session(app: Any, alice: Client) -> None:
    session = await create(client(app), "/v1/sessions", login="alice", password=PASSWORD)
    phone = client(app, Authorization=f"Bearer {session['token']}")
    assert (await phone.get("/v1/users/me")).status_code == 200
    assert (await phone.delete("/v1/sessions/current")).status_code == 204
    assert (await phone.get("/v1/users/me")).status_code == 401
    assert (await alice.get("/v1/users/me")).status_code == 200


async def test_a_session_can_be_ended_from_another_session_of_its_user_only(
    app: Any, alice: Client, charlie: Client
) -> None:
    session = await create(client(app), "/v1/sessions", login="alice", password=PASSWORD)
    phone = client(app, Authorization=f"Bearer {session['token']}")
    assert (await charlie.delete(f"/v1/sessions/{session['id']}")).status_code == 404
    assert (await phone.get("/v1/users/me")).status_code == 200
    assert (await alice.delete(f"/v1/sessions/{session['id']}")).status_code == 204
    assert (await phone.get("/v1/users/me")).status_code == 401
    assert (await alice.delete(f"/v1/sessions/{session['id']}")).status_code == 404


async def test_signing_out_everywhere_ends_all_sessions_of_the_user_and_no_key(
    app: Any, alice: Client, charlie: Client
) -> None:
    session = await create(client(app), "/v1/sessions", login="alice", password=PASSWORD)
    phone = client(app, Authorization=f"Bearer {session['token']}")
    program = await with_key(app, alice, "characters:read")
    assert (await phone.get("/v1/users/me")).status_code == 200
    assert (await program.delete("/v1/sessions")).status_code == 403
    assert (await alice.delete("/v1/sessions")).status_code == 204
    assert [(await each.get("/v1/users/me")).status_code for each in (alice, phone, charlie)] == [401, 401, 200]
    assert (await program.get("/v1/characters")).status_code == 200


async def test_a_sign_in_during_a_password_change_is_refused(alice: Client, stranger: Client) -> None:
    login = {"login": "alice", "password": PASSWORD}
    elsewhere = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        async with elsewhere.transaction():
            await elsewhere.execute("UPDATE users SET password_hash = 'another'")
            await elsewhere.execute("DELETE FROM tokens")
            signing_in = asyncio.create_task(stranger.post("/v1/sessions", json=login))
            await asyncio.sleep(0.5)
            assert not signing_in.done()
        assert (await signing_in).status_code == 401
    finally:
        await elsewhere.close()


async def test_a_mistyped_token_is_distinguished_from_a_revoked_one(app: Any, alice: Client) -> None:
    token = alice.headers["authorization"].removeprefix("Bearer ")
    typo = token[:10] + ("a" if token[10] != "a" else "b") + token[11:]
    mistyped = await client(app, Authorization=f"Bearer {typo}").get("/v1/users/me")
    cut_short = await client(app, Authorization=f"Bearer {token[:-1]}").get("/v1/users/me")
    await alice.delete("/v1/sessions/current")
    ended = await alice.get("/v1/users/me")
    assert {answer.status_code for answer in (mistyped, cut_short, ended)} == {401}
    whole = "This is no token of this service: send 'Bearer <token>', whole and as it was given."
    assert mistyped.json()["detail"] == cut_short.json()["detail"] == whole
    assert ended.json()["detail"] == "The token has expired or was revoked."


async def test_the_pattern_for_secret_scanners_finds_every_token_and_nothing_else(alice: Client) -> None:
    found = re.search(r"`(\\bch[^`]*)`", (ROOT / "docs/api.md").read_text())
    assert found
    pattern = found[1]
    key = await create(alice, KEYS, **KEY)
    for token in (key["token"], alice.headers["authorization"].removeprefix("Bearer ")):
        assert re.findall(pattern, f"TOKEN={token}\nsrc='{token}'") == [token, token]
    assert re.findall(pattern, f"chk_{'a' * 40} xchk_{'a' * 43}") == []


@pytest.mark.parametrize(
    "shifted",
    [{Token.expires_at: YESTERDAY}, {Token.last_used_at: YESTERDAY - timedelta(days=30)}],
    ids=["its time is up", "not used for too long"],
)
async def test_a_session_expires(alice: Client, shifted: dict[Any, Any]) -> None:
    assert (await alice.get("/v1/users/me")).status_code == 200
    await Token.update(shifted, force=True)
    forget_tokens()
    assert (await alice.get("/v1/users/me")).status_code == 401


async def test_a_cached_session_expires_on_time_too(alice: Client) -> None:
    await Token.update({Token.expires_at: datetime.now(UTC) + timedelta(seconds=0.5)}, force=True)
    assert (await alice.get("/v1/users/me")).status_code == 200
    await asyncio.sleep(0.6)
    assert (await alice.get("/v1/users/me")).status_code == 401


async def test_a_revocation_by_another_worker_takes_effect_within_five_seconds(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await alice.get("/v1/users/me")).status_code == 200
    await Token.delete(force=True)  # this worker still remembers the token
    assert (await alice.get("/v1/users/me")).status_code == 200
    in_five_seconds = SimpleNamespace(monotonic=lambda: time.monotonic() + 5)
    monkeypatch.setattr("service.auth.token_cache.time", in_five_seconds)
    assert (await alice.get("/v1/users/me")).status_code == 401


async def test_tokens_are_stored_as_hashes(alice: Client) -> None:
    token = alice.headers["authorization"].removeprefix("Bearer ")
    stored = await Token.select(Token.digest).first()
    assert stored is not None
    assert token.encode() not in stored["digest"]
    assert len(stored["digest"]) == 32


@pytest.mark.parametrize(
    "authorization",
    [
        "", "Bearer", "Bearer ", "Bearer x",
        "Basic YWxpY2U6eA==", "Bearer chs_" + "A" * 51, "Bearer " + "a" * 30_000,
        "Bearer \x00", b"\xff\xfe", "Bearer ch",
        "Token {token}", "Bearer {token}0", "Bearer {token} {token}", "{token}",
    ],
)  # fmt: skip
async def test_a_malformed_token_is_unauthorized(alice: Client, stranger: Client, authorization: Any) -> None:
    if isinstance(authorization, str):
        token = alice.headers["authorization"].removeprefix("Bearer ")
        authorization = authorization.replace("{token}", token)
    answer = await stranger.get("/v1/users/me", headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_scheme_is_read_in_any_case(alice: Client, stranger: Client) -> None:
    lower = alice.headers["authorization"].replace("Bearer", "bearer")
    assert (await stranger.get("/v1/users/me", headers={"Authorization": lower})).status_code == 200


async def test_the_token_of_an_api_key_is_shown_once(alice: Client) -> None:
    made = await alice.post(KEYS, json=KEY | {"scopes": ["templates:read", "characters:read"]})
    assert made.status_code == 201
    token = made.json()["token"]
    assert token.startswith("chk_")
    read = await alice.get(made.headers["location"])
    assert read.json() == {name: value for name, value in made.json().items() if name != "token"}
    assert read.json()["scopes"] == ["characters:read", "templates:read"]
    assert (await alice.get(KEYS)).json() == {"items": [read.json()]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": ""}, {"/name": "Must be at least 1 character."}),
        ({"name": "a\tb"}, {"/name": "Must not contain control characters."}),
        ({"scopes": []}, {"/scopes": "Must have at least 1 item."}),
        ({"scopes": "characters:read"}, {"/scopes": "Must be a list, not a string."}),
        ({"expires_at": "2020-01-01T00:00:00Z"}, {"/expires_at": "Must be in the future."}),
        ({"expires_at": "tomorrow"}, {"/expires_at": "Is not a valid time (RFC 3339)."}),
        (
            {"name": 1, "kind": "session"},
            {"/name": "Must be a string, not an integer.", "/kind": "Is not a known field."},
        ),
    ],
)
async def test_a_key_refuses(alice: Client, given: dict[str, Any], expected: dict[str, str]) -> None:
    answer = await alice.post(KEYS, json=KEY | given)
    assert answer.status_code == 422
    assert faults(answer) == expected


async def test_a_key_needs_the_current_password(alice: Client) -> None:
    for given, status in (({"current_password": "a wrong password"}, 403), ({"current_password": None}, 422)):
        assert (await alice.post(KEYS, json=KEY | given)).status_code == status
    without = {"name": "CI", "scopes": ["characters:read"]}
    assert faults(await alice.post(KEYS, json=without)) == {"/current_password": "Is required."}
    assert (await alice.get(KEYS)).json() == {"items": []}


async def test_an_account_has_a_hundred_keys_at_most(alice: Client) -> None:
    for _ in range(100):
        await create(alice, KEYS, **KEY)
    refused = await alice.post(KEYS, json=KEY)
    assert (refused.status_code, refused.json()["detail"]) == (403, "An account has at most 100 API keys.")


async def test_an_expired_key_does_not_count(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no list either, so its owner could not delete it."""
    monkeypatch.setattr("service.auth.api_keys.MAX_KEYS", 1)
    await create(alice, KEYS, **KEY)
    await Token.update({Token.expires_at: YESTERDAY}).where(Token.kind == "key")
    assert (await alice.get(KEYS)).json() == {"items": []}
    await create(alice, KEYS, **KEY)
    assert (await alice.post(KEYS, json=KEY)).status_code == 403


async def test_of_two_keys_at_once_the_last_free_place_is_for_one(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.auth.api_keys.MAX_KEYS", 1)
    elsewhere = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        async with elsewhere.transaction():
            await elsewhere.execute("LOCK TABLE tokens IN EXCLUSIVE MODE")  # which lets others count, but not insert
            at_once = [asyncio.create_task(alice.post(KEYS, json=KEY)) for _ in range(2)]
            await until_waiting(*at_once)
        assert sorted([(await each).status_code for each in at_once]) == [201, 403]
    finally:
        await elsewhere.close()


async def test_an_unknown_scope_is_refused_with_its_pointer(alice: Client) -> None:
    answer = await alice.post(KEYS, json=KEY | {"scopes": ["characters:read", "admin"]})
    assert faults(answer).keys() == {"/scopes/1"}


async def test_a_key_expires_or_is_revoked(app: Any, alice: Client) -> None:
    program = await with_key(app, alice, "characters:write")
    assert (await program.post("/v1/characters", json={"name": "Mira"})).status_code == 201
    await Token.update({Token.expires_at: YESTERDAY}).where(Token.kind == "key")
    forget_tokens()
    assert (await program.post("/v1/characters", json={"name": "Mira"})).status_code == 401
    other = await with_key(app, alice, "characters:write")
    for key in (await alice.get(KEYS)).json()["items"]:
        assert (await alice.delete(f"{KEYS}/{key['id']}")).status_code == 204
    assert (await other.post("/v1/characters", json={"name": "Mira"})).status_code == 401


async def test_a_key_is_visible_to_its_owner_only(alice: Client, charlie: Client) -> None:
    key = await create(alice, KEYS, **KEY)
    assert (await charlie.get(f"{KEYS}/{key['id']}")).status_code == 404
    assert (await charlie.delete(f"{KEYS}/{key['id']}")).status_code == 404
    assert (await charlie.get(KEYS)).json() == {"items": []}
    assert (await alice.get(f"{KEYS}/{key['id']}")).status_code == 200


async def test_a_session_is_not_listed_as_a_key(alice: Client) -> None:
    session = (await alice.get("/v1/sessions")).json()["items"][0]
    assert (await alice.delete(f"{KEYS}/{session['id']}")).status_code == 404


async def test_the_tokens_of_a_suspended_user_are_refused(app: Any, alice: Client) -> None:
    await User.update({User.status: "suspended"}, force=True)
    forget_tokens()
    assert (await alice.get("/v1/users/me")).status_code == 401
    answer = await client(app).post("/v1/sessions", json={"login": "alice", "password": PASSWORD})
    assert answer.json()["detail"] == "The login or the password is not right."
    assert (await client(app).get("/v1/users/alice")).status_code == 404


async def test_two_users_sign_in_at_the_same_time(app: Any) -> None:
    bea, dora = await signed_in(app, "bea"), await signed_in(app, "dora")
    assert (await bea.get("/v1/users/me")).json()["username"] == "bea"
    assert (await dora.get("/v1/users/me")).json()["username"] == "dora"
