"""Members: signing up, the own account, profiles."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import PASSWORD, faults, with_key
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient

PNG = {"Content-Type": "image/png"}
BEA = {"email": "bea@example.org", "username": "bea", "password": PASSWORD}


async def test_sign_up_returns_the_own_account(stranger: Client) -> None:
    made = await stranger.post("/v1/users", json=BEA | {"display_name": "Bea"})
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/users/me"
    me = made.json()
    assert (me["email"], me["username"], me["display_name"]) == ("bea@example.org", "bea", "Bea")
    assert made.headers["etag"] == f'"{me["id"]}-1"'
    assert "password" not in made.text


@pytest.mark.parametrize(
    ("taken", "pointers"),
    [
        ({"email": "ALICE@Example.ORG", "username": "other"}, ["/email"]),
        ({"email": "other@example.org", "username": "alice"}, ["/username"]),
        ({"email": "alice@example.org", "username": "alice"}, ["/email", "/username"]),
    ],
)
async def test_a_taken_email_in_any_case_or_username_is_a_conflict(
    stranger: Client, alice: Client, taken: dict[str, str], pointers: list[str]
) -> None:
    answer = await stranger.post("/v1/users", json={"password": PASSWORD} | taken)
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/conflict"
    assert list(faults(answer)) == pointers


async def test_a_profile_is_found_by_name_in_any_case_and_by_id(stranger: Client, alice: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()
    assert (await alice.put("/v1/users/me/avatar", content=draw_picture(), headers=PNG)).status_code == 200
    for name in ("alice", "Alice", "ALICE", me["id"], me["id"].upper()):
        assert (await stranger.get(f"/v1/users/{name}")).json()["id"] == me["id"]
        assert (await stranger.get(f"/v1/users/{name}/avatar")).status_code == 200
    for name in (me["id"].replace("-", ""), "0199a0a0-0000-7000-8000-000000000000", "alice ", "ALICE\0", "ſ" * 36):
        assert (await stranger.get(f"/v1/users/{quote(name)}")).status_code == 404


@pytest.mark.parametrize(
    ("given", "pointer", "detail"),
    [
        ({"email": "bea"}, "/email", "Must be an e-mail address."),
        ({"email": "b@a.x\n"}, "/email", "Must be an e-mail address."),
        ({"email": f"{'b' * 250}@example.org"}, "/email", "Must be at most 254 characters."),
        ({"username": "be"}, "/username", "Must be at least 3 characters."),
        ({"username": "Bea"}, "/username", "Must be made of a–z, 0–9, - and _."),
        ({"username": "bea\n"}, "/username", "Must be made of a–z, 0–9, - and _."),
        ({"username": "me2" * 11}, "/username", "Must be at most 32 characters."),
        ({"username": "admin"}, "/username", "This username is reserved."),
        ({"password": "short"}, "/password", "Must be at least 10 characters."),
        ({"password": "x" * 257}, "/password", "Must be at most 256 characters."),
        ({"password": "BEA@example.org"}, "/password", "Must not be your own name or e-mail address."),
        ({"display_name": 1}, "/display_name", "Must be a string or null, not an integer."),
        ({"display_name": "a\0b"}, "/display_name", "Must not contain the NUL character."),
        ({"status": "active"}, "/status", "Is not a known field."),
    ],
)
async def test_sign_up_refuses(stranger: Client, given: dict[str, Any], pointer: str, detail: str) -> None:
    answer = await stranger.post("/v1/users", json=BEA | given)
    assert answer.status_code == 422, answer.text
    assert faults(answer) == {pointer: detail}


async def test_sign_up_reports_every_fault_at_once(stranger: Client) -> None:
    answer = await stranger.post("/v1/users", json={"username": "X", "password": 1, "role": "admin"})
    assert answer.json()["type"] == "/problems/validation"
    assert answer.json()["detail"] == "The body has 4 faults."
    assert faults(answer).keys() == {"/email", "/username", "/password", "/role"}


async def test_an_account_is_changed_field_by_field(alice: Client) -> None:
    links = [{"title": "Home", "url": "https://example.org"}]
    changed = (await alice.patch("/v1/users/me", json={"bio": "Paints.", "links": links})).json()
    assert (changed["bio"], changed["links"], changed["version"]) == ("Paints.", links, 2)
    emptied = await alice.patch("/v1/users/me", json={"links": None})
    assert (emptied.json()["bio"], emptied.json()["links"]) == ("Paints.", [])
    assert emptied.content == (await alice.get("/v1/users/me")).content


async def test_an_account_refuses_every_bad_field_at_once(alice: Client) -> None:
    links = [{"title": "Home", "url": "javascript:alert(1)"}, {"title": "", "url": "https://x.org", "rel": "me"}]
    answer = await alice.patch("/v1/users/me", json={"bio": "x" * 2001, "links": links, "username": "eve"})
    assert answer.status_code == 422
    assert faults(answer) == {
        "/bio": "Must be at most 2000 characters.",
        "/links/0/url": "Must be an http or https address.",
        "/links/1/title": "Must be at least 1 character.",
        "/links/1/rel": "Is not a known field.",
        "/username": "Is read-only: send it as it is now, or leave it out.",
    }


@pytest.mark.parametrize(
    ("proof", "fault"), [({}, "Is required."), ({"current_password": "not the right one"}, "Is not right.")]
)
async def test_a_new_email_needs_the_current_password(alice: Client, proof: dict[str, str], fault: str) -> None:
    answer = await alice.patch("/v1/users/me", json={"email": "new@example.org"} | proof)
    assert (answer.status_code, faults(answer)) == (403, {"/current_password": fault})
    assert (await alice.get("/v1/users/me")).json()["email"] == "alice@example.org"


async def test_the_new_email_signs_in(alice: Client, stranger: Client) -> None:
    change = {"email": "New@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/v1/users/me", json=change)).json()["email"] == "New@example.org"
    session = await stranger.post("/v1/sessions", json={"login": "new@EXAMPLE.org", "password": PASSWORD})
    assert session.status_code == 201


async def test_an_email_of_another_user_is_a_conflict(alice: Client, charlie: Client) -> None:
    change = {"email": "Charlie@example.org", "current_password": PASSWORD, "bio": "new"}
    assert (await alice.patch("/v1/users/me", json=change)).status_code == 409
    assert (await alice.get("/v1/users/me")).json()["bio"] == ""


async def test_a_key_changes_the_profile_but_not_the_email(app: Any, alice: Client) -> None:
    program = await with_key(app, alice, "characters:read")
    change = {"email": "new@example.org", "current_password": PASSWORD}
    assert (await program.patch("/v1/users/me", json=change)).status_code == 403
    assert (await alice.get("/v1/users/me")).json()["email"] == "alice@example.org"


async def test_a_profile_is_public_and_hides_the_email(alice: Client, stranger: Client) -> None:
    await alice.patch("/v1/users/me", json={"display_name": "Alice", "bio": "Paints."})
    profile = (await stranger.get("/v1/users/alice")).json()
    assert profile.keys() == {"id", "username", "display_name", "bio", "links", "avatar", "created_at"}
    assert (profile["display_name"], profile["bio"]) == ("Alice", "Paints.")


@pytest.mark.parametrize(
    "name", ["nobody", "alic", "alice%00", "%F0%9F", "a" * 4_000, "..", "alice%2F..", "alice@example.org"]
)
async def test_an_unknown_user_is_not_found(alice: Client, stranger: Client, name: str) -> None:
    assert (await stranger.get(f"/v1/users/{name}")).status_code == 404
