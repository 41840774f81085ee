"""Passwords: which are refused, how they are compared, and when they are hashed anew."""

import httpx
import pytest
from argon2 import PasswordHasher, extract_parameters

from service.settings import settings
from service.users.credentials import rehash_password
from service.users.tables import User
from tests.conftest import PASSWORD, faults

Client = httpx.AsyncClient

COMMON = {"/password": "Is one of the most common passwords: choose another."}
OWN = {"/password": "Must not be your own name or e-mail address."}
ADA = {"email": "Ada.Lovelace@example.org", "username": "ada_l", "display_name": "Countess Ada"}


async def sign_up(stranger: Client, password: str) -> httpx.Response:
    return await stranger.post("/v1/users", json=ADA | {"password": password})


async def sign_in(stranger: Client, password: str, login: str = "ada_l") -> int:
    return (await stranger.post("/v1/sessions", json={"login": login, "password": password})).status_code


@pytest.mark.parametrize(
    "password", ["1234567890", "qwertyuiop", "Password123", "pASSWORD123", "ｐａｓｓｗｏｒｄ１２３"]
)
async def test_a_common_password_is_refused(stranger: Client, password: str) -> None:
    answer = await sign_up(stranger, password)
    assert (answer.status_code, faults(answer)) == (422, COMMON)


@pytest.mark.parametrize(
    "password",
    [
        "ada.lovelace@example.org", "AdaLovelace", "ada-lovelace-1843!", "Countess Ada", "!!countessada!!",
        "ada_l_ada_l", "ada_l00000", "Character Service", "characterservice1", "ＡｄａＬｏｖｅｌａｃｅ",
    ],
)  # fmt: skip
async def test_a_password_made_of_the_own_name_is_refused(stranger: Client, password: str) -> None:
    answer = await sign_up(stranger, password)
    assert (answer.status_code, faults(answer)) == (422, OWN)


@pytest.mark.parametrize("password", ["ada reads numbers", " " * 10, "вышедшие из употребления", "🐎🔋📎" * 4])
async def test_a_password_needs_no_mix_of_characters(stranger: Client, password: str) -> None:
    assert (await sign_up(stranger, password)).status_code == 201
    assert await sign_in(stranger, password) == 201


async def test_a_changed_password_is_checked_too(alice: Client) -> None:
    for password, fault in (("qwertyuiop", COMMON), ("alice12345", OWN)):
        change = {"current_password": PASSWORD, "new_password": password}
        answer = await alice.put("/v1/users/me/password", json=change)
        assert faults(answer) == {"/new_password": fault["/password"]}


async def test_a_password_is_compared_normalised(stranger: Client) -> None:
    composed, decomposed = "d\u00e9j\u00e0 vu, mon ami", "de\u0301ja\u0300 vu, mon ami"
    assert (await sign_up(stranger, composed)).status_code == 201
    assert await sign_in(stranger, decomposed) == 201
    assert await sign_in(stranger, "deja vu, mon ami") == 401


@pytest.mark.parametrize("weaker", [{"memory_cost": 8, "time_cost": 1}, {"memory_cost": 32, "time_cost": 2}])
async def test_a_weak_hash_is_replaced_at_the_next_sign_in(
    alice: Client, stranger: Client, weaker: dict[str, int]
) -> None:
    await User.update({User.password_hash: PasswordHasher(parallelism=1, **weaker).hash(PASSWORD)}, force=True)
    assert await sign_in(stranger, "not the password", "alice") == 401
    assert await memory_of_hash() == weaker["memory_cost"]
    assert await sign_in(stranger, PASSWORD, "alice") == 201
    assert await memory_of_hash() == settings.password_memory_kib
    assert await sign_in(stranger, PASSWORD, "alice") == 201


async def test_a_stronger_hash_is_kept(alice: Client, stranger: Client) -> None:
    stronger = PasswordHasher(parallelism=1, memory_cost=settings.password_memory_kib * 2, time_cost=2)
    await User.update({User.password_hash: stronger.hash(PASSWORD)}, force=True)
    assert await sign_in(stranger, PASSWORD, "alice") == 201
    assert await memory_of_hash() == settings.password_memory_kib * 2


async def test_a_rehash_does_not_overwrite_a_new_password(alice: Client, stranger: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()
    await rehash_password(me["id"], "the hash that was read before", "the old password")
    assert await sign_in(stranger, "the old password", "alice") == 401
    assert await sign_in(stranger, PASSWORD, "alice") == 201


async def memory_of_hash() -> int:
    stored = await User.select(User.password_hash).first()
    assert stored is not None
    return extract_parameters(stored["password_hash"]).memory_cost


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\n", "\x7f", "\u2028"])
async def test_a_name_with_control_characters_is_refused_and_not_changed(alice: Client, character: str) -> None:
    name = f"evil{character}live"
    expected = "Must not contain control characters."
    me = await alice.patch(
        "/v1/users/me", json={"display_name": name, "links": [{"title": name, "url": "https://x.org"}]}
    )
    assert faults(me) == {"/display_name": expected, "/links/0/title": expected}
    for path, body, pointers in (
        ("/v1/characters", {"name": name, "tags": [name]}, ["/name", "/tags/0"]),
        ("/v1/templates", {"name": name, "tags": [name]}, ["/name", "/tags/0"]),
        ("/v1/api-keys", {"name": name, "scopes": ["characters:read"], "current_password": PASSWORD}, ["/name"]),
    ):
        refused = await alice.post(path, json=body)
        assert (refused.status_code, faults(refused)) == (422, dict.fromkeys(pointers, expected))
    kept = " ＡＢＣ ﬁ e\u0301 <b>&amp;</b> "
    assert (await alice.patch("/v1/users/me", json={"display_name": kept})).json()["display_name"] == kept


@pytest.mark.parametrize("login", ["ＡＬＩＣＥ", "ａｌｉｃｅ＠example.org", "aLİCE".replace("İ", "I")])
async def test_a_login_is_compared_normalised(alice: Client, stranger: Client, login: str) -> None:
    assert await sign_in(stranger, PASSWORD, login) == 201


@pytest.mark.parametrize("email", ["STRASSE@example.org", "ｓｔｒａｓｓｅ@example.org"])
async def test_an_address_that_is_the_same_normalised_is_taken(stranger: Client, email: str) -> None:
    sent = {"email": "stra\u00dfe@example.org", "username": "first", "password": PASSWORD}
    made = await stranger.post("/v1/users", json=sent)
    assert made.json()["email"] == sent["email"]
    taken = await stranger.post("/v1/users", json={"email": email, "username": "second", "password": PASSWORD})
    assert taken.status_code == 409


@pytest.mark.parametrize(
    "email",
    ["a,b@example.org", "a;b@example.org", "<a@example.org>", '"a"@example.org', "a(b)@example.org",
     "a\u202eb@example.org", "a\\b@example.org", "a\x85b@example.org", "\ufdfa" * 20 + "@example.org"],
)  # fmt: skip
async def test_an_address_with_a_meaning_in_mail_headers_is_refused(stranger: Client, email: str) -> None:
    answer = await stranger.post("/v1/users", json={"email": email, "username": "first", "password": PASSWORD})
    assert (answer.status_code, faults(answer)) == (422, {"/email": "Must be an e-mail address."})
