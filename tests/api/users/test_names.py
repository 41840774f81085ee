"""Names that show nothing, addresses and usernames that look like those of others, and usernames of purged accounts."""

import unicodedata
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.commands.purge import purge_everything
from service.mail.tables import Message
from service.schemas import VISIBLE
from service.users.tables import ReservedUsername, User
from tests.conftest import FIGHTER, PASSWORD, character, create, faults, relationship

Client = httpx.AsyncClient

BLANK = {
    "space": " ",
    "no-break space": "\u00a0",
    "em space": "\u2003",
    "ideographic space": "\u3000",
    "soft hyphen": "\u00ad",
    "combining grapheme joiner": "\u034f",
    "combining acute accent": "\u0301",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "left-to-right mark": "\u200e",
    "word joiner": "\u2060",
    "unassigned and ignored": "\u2065",
    "byte order mark": "\ufeff",
    "Hangul choseong filler": "\u115f",
    "Hangul jungseong filler": "\u1160",
    "Hangul filler": "\u3164",
    "halfwidth Hangul filler": "\uffa0",
    "Braille blank": "\u2800",
    "Mongolian vowel separator": "\u180e",
    "variation selector": "\ufe0f",
    "variation selector 256": "\U000e01ef",
    "tag space": "\U000e0020",
    "null notehead": "\U0001d159",
    "object replacement character": "\ufffc",
    "private use": "\ue000\uf8ff",
    "private use of planes 15 and 16": "\U000f0000\U000ffffd\U00100000\U0010fffd",
    "several": "\u200b\u3164 \ufe0f\u0301",
}
VISIBLE_NAMES = [
    "x",
    "é",
    "e\u0301",
    "ж",
    "ミ",
    "한",
    "़क",
    "👍",
    "👩\u200d🚀",
    "…",
    "።",
    "𓀀",
    "\u200bx\u3164",
    " x ",
    "\ue000x",
]
BLANK_FAULT = "Must contain at least one visible character."


@pytest.mark.parametrize("text", BLANK.values(), ids=BLANK)
async def test_a_name_that_shows_nothing_is_refused_everywhere(alice: Client, stranger: Client, text: str) -> None:
    mira, ines = await character(alice), await character(alice)
    path, schema = f"/v1/characters/{mira['id']}", {"name": "Fighter", "attribute_schema": FIGHTER}
    labelled = {"target": ines["id"], "type": "custom"}
    account = {"email": "bea@example.org", "username": "bea", "password": PASSWORD}
    key = {"scopes": ["characters:read"], "current_password": PASSWORD}
    doors: list[tuple[Client, str, str, dict[str, Any], str]] = [
        (alice, "POST", "/v1/characters", {"name": text}, "/name"),
        (alice, "POST", "/v1/characters", {"name": "Mira", "tags": ["a", text]}, "/tags/1"),
        (alice, "PATCH", path, {"name": text}, "/name"),
        (alice, "PATCH", path, {"tags": [text]}, "/tags/0"),
        (alice, "POST", "/v1/templates", schema | {"name": text}, "/name"),
        (alice, "POST", "/v1/templates", schema | {"tags": [text]}, "/tags/0"),
        (alice, "POST", "/v1/api-keys", key | {"name": text}, "/name"),
        (alice, "POST", f"{path}/relationships", labelled | {"label": text}, "/label"),
        (alice, "POST", f"{path}/relationships", labelled | {"label": "x", "inverse_label": text}, "/inverse_label"),
        (alice, "PATCH", "/v1/users/me", {"display_name": text}, "/display_name"),
        (alice, "PATCH", "/v1/users/me", {"links": [{"title": text, "url": "https://a.org"}]}, "/links/0/title"),
        (stranger, "POST", "/v1/users", account | {"display_name": text}, "/display_name"),
    ]
    for caller, method, address, body, pointer in doors:
        answer = await caller.request(method, address, json=body)
        assert (answer.status_code, faults(answer)) == (422, {pointer: BLANK_FAULT}), address
    operations = [
        {"action": "create", "body": {"name": text}},
        {"action": "update", "id": mira["id"], "body": {"name": text}},
    ]
    bulk = (await alice.post("/v1/characters/bulk", json={"operations": operations})).json()
    found = [(item["status"], item["problem"]["errors"]) for item in bulk["items"]]
    assert found == [(422, [{"pointer": "/name", "detail": BLANK_FAULT}])] * 2
    card = {"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": text, "tags": [text, "seen"]}}
    imported = (
        await alice.post("/v1/imports", files={"file": ("a.json", httpx.Response(200, json=card).content)})
    ).json()
    (item,) = imported["items"]
    assert (item["character"]["name"], item["character"]["tags"]) == ("Unnamed", ["seen"])
    assert any("The name is empty" in note for note in item["notes"])


@pytest.mark.parametrize("name", VISIBLE_NAMES)
async def test_a_name_that_shows_something_is_kept(alice: Client, name: str) -> None:
    made = await character(alice, name=name, tags=[name])
    assert (made["name"], made["tags"]) == (name, [name])
    ines = await character(alice)
    await relationship(alice, made, ines, type="custom", label=name)
    assert (await alice.patch("/v1/users/me", json={"display_name": name})).json()["display_name"] == name


async def test_a_display_name_may_be_empty(alice: Client) -> None:
    assert (await alice.patch("/v1/users/me", json={"display_name": ""})).json()["display_name"] == ""


def test_every_letter_digit_and_symbol_of_common_scripts_is_visible() -> None:
    hidden = [code for code in range(0x3000) if not VISIBLE.search(chr(code))]
    kinds = {unicodedata.category(chr(code)) for code in hidden if code not in (0x115F, 0x1160, 0x2065, 0x2800)}
    assert kinds == {"Cc", "Cf", "Mn", "Mc", "Me", "Zs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("taken", "lookalike"),
    [
        ("alice@example.org", "ＡＬＩＣＥ@example.org"),
        ("alice@example.org", "alice@ｅxample.org"),
        ("alice@example.org", "alice@example.org."),
        ("alice@sub.example.org", "alice@sub。example.org"),
        ("alice@example.org", "alice@exam\u200bple.org"),
        ("alice@example.org", "alice@exam\u00adple.org"),
        ("alice@example.org", "alice@example.org。"),
        ("alice@example.org", "ⓐlice@example.org"),
        ("office@example.org", "oﬃce@example.org"),
        ("kay@example.org", "\u212aay@example.org"),
        ("ann@münchen.example", "ann@xn--mnchen-3ya.example"),
        ("ann@xn--mnchen-3ya.example", "ann@MÜNCHEN.example"),
        ("ann@mu\u0308nchen.example", "ann@XN--MNCHEN-3YA.example"),
    ],
)
async def test_a_lookalike_of_a_taken_address_is_taken(stranger: Client, taken: str, lookalike: str) -> None:
    await create(stranger, "/v1/users", email=taken, username="first", password=PASSWORD)
    second = await stranger.post("/v1/users", json={"email": lookalike, "username": "second", "password": PASSWORD})
    assert second.status_code == 409, second.text
    session = await stranger.post("/v1/sessions", json={"login": lookalike, "password": PASSWORD})
    assert session.json()["user"]["username"] == "first"


@pytest.mark.parametrize(
    "letter", [*"\u200b\u00ad\ufe0f\u2060\U000e0061\u3164\u034f\ue000\u2800\u17b4\ufffc\u180b\U0001d159"]
)
async def test_an_address_with_an_invisible_letter_is_none(stranger: Client, letter: str) -> None:
    account = {"email": f"al{letter}ice@example.org", "username": "second", "password": PASSWORD}
    answer = await stranger.post("/v1/users", json=account)
    assert (answer.status_code, faults(answer)) == (422, {"/email": "Must be an e-mail address."})


@pytest.mark.parametrize("domain", ["exam\u200dple.org", "xn--example-.org"])
async def test_a_domain_that_dns_does_not_know_is_refused(stranger: Client, domain: str) -> None:
    account = {"email": f"alice@{domain}", "username": "second", "password": PASSWORD}
    assert faults(await stranger.post("/v1/users", json=account)) == {"/email": "Must be an e-mail address."}


@pytest.mark.parametrize("address", ["राम@example.org", "ада@почта.рф", "ann@bücher.example"])
async def test_an_address_of_another_script_is_kept(stranger: Client, address: str) -> None:
    assert (await create(stranger, "/v1/users", email=address, username="ann", password=PASSWORD))["email"] == address


@pytest.mark.parametrize("domain", ["exam\u200bple.org", "exam\u00adple.org", "example.org."])
async def test_the_message_for_a_lookalike_of_a_domain_goes_to_the_real_one(stranger: Client, domain: str) -> None:
    made = await create(stranger, "/v1/users", email=f"bea@{domain}", username="bea", password=PASSWORD)
    assert made["email"].casefold() == "bea@example.org"


async def test_the_message_for_a_lookalike_goes_to_the_real_address(alice: Client, stranger: Client) -> None:
    made = await create(stranger, "/v1/users", email="oﬃce@example.org", username="squatter", password=PASSWORD)
    assert made["email"] == "office@example.org"
    changed = await alice.patch("/v1/users/me", json={"email": "ﬁne@example.org", "current_password": PASSWORD})
    assert changed.json()["email"] == "fine@example.org"


@pytest.mark.parametrize(
    "email",
    [
        "a＠b@example.org",
        "a，b@example.org",
        "a@b＠example.org",
        "a\ufdfab@example.org",
        "ß" * 130 + "@example.org",
    ],
)
async def test_an_address_that_is_none_once_normalised_is_refused(stranger: Client, email: str) -> None:
    answer = await stranger.post("/v1/users", json={"email": email, "username": "bea", "password": PASSWORD})
    assert (answer.status_code, faults(answer)) == (422, {"/email": "Must be an e-mail address."})


@pytest.mark.parametrize("username", ["аlice", "ａlice", "Alice", "al\u200bice", "ⓐlice", "alıce", "ali\u0441e"])
async def test_a_lookalike_of_a_username_is_refused(alice: Client, stranger: Client, username: str) -> None:
    account = {"email": "bea@example.org", "username": username, "password": PASSWORD}
    answer = await stranger.post("/v1/users", json=account)
    assert (answer.status_code, faults(answer)) == (422, {"/username": "Must be made of a–z, 0–9, - and _."})


async def test_a_purged_users_username_is_reserved_for_ninety_days(alice: Client, stranger: Client) -> None:
    assert (await alice.request("DELETE", "/v1/users/me", json={"password": PASSWORD})).status_code == 204
    left = User.deleted_at - timedelta(days=31)
    await User.update({User.deleted_at: left}, force=True)
    assert (await purge_everything())["accounts"] == 1

    account = {"email": "bea@example.org", "username": "alice", "password": PASSWORD}
    refused = await stranger.post("/v1/users", json=account)
    assert (refused.status_code, refused.json()["detail"]) == (409, "This username is taken.")
    assert await User.count() == 0
    assert await Message.count().where(Message.address == "bea@example.org") == 0

    (row,) = await ReservedUsername.select()
    assert timedelta(days=89) < row["until"] - row["until"].now(row["until"].tzinfo) <= timedelta(days=90)
    assert (await purge_everything())["reserved usernames"] == 0
    await ReservedUsername.update({ReservedUsername.until: ReservedUsername.until - timedelta(days=91)}, force=True)
    assert (await stranger.post("/v1/users", json=account)).status_code == 201
    assert (await purge_everything())["reserved usernames"] == 1
