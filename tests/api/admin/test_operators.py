"""Operators: their sessions, what the audit log tells of them, and how often they may be mistaken."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
from piccolo.apps.user.tables import BaseUser

from service.admin import mount
from service.admin.operators import Operator, OperatorSession
from service.audit.tables import AuditEntry
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.identifiers import uuid7
from tests.conftest import OPERATORS_PASSWORD, browser, character, sign_in
from tests.support.backoff import allow_failures

Client = httpx.AsyncClient

LOGOUT = "/admin/public/logout/"
CHANGE_PASSWORD = "/admin/api/change-password/"

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def last_entry() -> tuple[Any, ...]:
    entry: Any = await AuditEntry.select().order_by(AuditEntry.id, ascending=False).first()
    return entry["action"], entry["kind"], entry["row"], entry["operator"]


async def id_of(name: str) -> str:
    operator: Any = await BaseUser.select(BaseUser.id).where(BaseUser.username == name).first()
    return str(operator["id"])


async def test_a_session_is_kept_without_its_token(operator: Client) -> None:
    token = operator.cookies["id"]
    [session] = await OperatorSession.select()
    assert session["digest"] == sha256(token.encode()).digest()
    assert token not in str(session)


@pytest.mark.parametrize("time", ["expires_at", "ends_at"])
async def test_a_session_ends_at_its_time(operator: Client, time: str) -> None:
    assert (await operator.get("/admin/api/tables/")).status_code == 200
    await DB.run_ddl(f"UPDATE operator_sessions SET {time} = now() - interval '1 second'")
    assert (await operator.get("/admin/api/tables/")).status_code == 401
    assert (await purge_everything())["operators' sessions"] == 1


async def test_a_session_in_use_lasts_longer_but_not_for_ever(operator: Client) -> None:
    async def minutes_left() -> tuple[float, float]:
        [session] = await OperatorSession.select(
            OperatorSession.expires_at, OperatorSession.ends_at, OperatorSession.created_at
        )
        begun = session["created_at"]
        return (session["expires_at"] - begun).total_seconds() / 60, (session["ends_at"] - begun).total_seconds() / 60

    assert await minutes_left() == (60, 720)
    await DB.run_ddl("UPDATE operator_sessions SET expires_at = now() + interval '10 minutes'")
    assert (await operator.get("/admin/api/tables/")).status_code == 200
    idle, absolute = await minutes_left()
    assert 60 <= idle < 61
    assert absolute == 720


async def test_a_former_operator_loses_access_at_once(operator: Client) -> None:
    assert (await operator.get("/admin/api/tables/")).status_code == 200
    await BaseUser.update({BaseUser.active: False}, force=True)
    assert (await operator.get("/admin/api/tables/")).status_code == 401


async def test_the_log_names_operators(app: Any, operator: Client, alice: Client) -> None:
    olga, member = await id_of("olga"), (await alice.get("/v1/users/me")).json()["id"]
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200
        assert await last_entry() == ("sign_in", "operator", olga, "olga")
        assert (await again.post(LOGOUT)).status_code == 200
        assert await last_entry() == ("sign_out", "operator", olga, "olga")
        assert (await sign_in(again, "olga", "not her password")).status_code == 401
        assert await last_entry() == ("refuse_password", "operator", olga, None)
        assert (await sign_in(again, "nobody")).status_code == 401
        assert await last_entry() == ("refuse_password", "operator", None, None)
    for form, deed in (("suspend-a-member", "suspend_user"), ("reactivate-a-member", "reactivate_user")):
        assert (await operator.post(f"/admin/api/forms/{form}/", json=SUSPEND)).status_code == 200
        assert await last_entry() == (deed, "user", member, "olga")
    passwords = {"new_password": "a newer password", "confirm_new_password": "a newer password"}
    given = passwords | {"current_password": "not her password"}
    assert (await operator.post(CHANGE_PASSWORD, json=given)).status_code == 422
    assert await last_entry() == ("refuse_password", "operator", olga, "olga")  # the session identifies her
    given = passwords | {"current_password": OPERATORS_PASSWORD}
    assert (await operator.post(CHANGE_PASSWORD, json=given)).status_code == 303
    assert await last_entry() == ("change_password", "operator", olga, "olga")


async def test_a_password_that_is_changed_meanwhile_is_not_overwritten(
    app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`piccolo user change_password` runs between the check of the form and its change."""
    login = Operator.login

    async def login_then_change(**given: Any) -> Any:
        found = await login(**given)
        await BaseUser.update({BaseUser.password: BaseUser.hash_password("of the command")}, force=True)
        return found

    monkeypatch.setattr(Operator, "login", staticmethod(login_then_change))
    given = {
        "current_password": OPERATORS_PASSWORD,
        "new_password": "an intruder",
        "confirm_new_password": "an intruder",
    }
    assert (await operator.post(CHANGE_PASSWORD, json=given)).status_code == 422
    monkeypatch.setattr(Operator, "login", login)
    async with browser(app) as again:
        assert (await sign_in(again, "olga", "an intruder")).status_code == 401
        assert (await sign_in(again, "olga", "of the command")).status_code == 200


async def test_the_log_is_shown_newest_first(operator: Client, alice: Client) -> None:
    mira = await character(alice)
    await alice.delete(f"/v1/characters/{mira['id']}")
    rows = (await operator.get("/admin/api/tables/audit_log/")).json()["rows"]
    assert (rows[0]["action"], rows[0]["row"], rows[0]["address"]) == ("trash_character", mira["id"], "127.0.0.1")
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids, reverse=True)


async def test_wrong_passwords_are_counted_for_all_workers(
    app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the database: this worker's own count, of 20 at the settings of the tests times 10,000, never fires here."""
    monkeypatch.setattr(mount, "MOST_REFUSED", 3)
    address = f"192.0.2.{uuid4().int % 250}"
    for _ in range(2):  # by another worker
        await DB.run_ddl(
            "INSERT INTO audit_log (id, action, kind, address)"
            f" VALUES ('{uuid7()}', 'refuse_password', 'operator', '{address}')"
        )
    async with browser(app, address) as guesser:
        assert (await sign_in(guesser, "olga", "a third guess")).status_code == 401
        for path in ("/admin/public/login/", "/admin/public/login/x", CHANGE_PASSWORD):
            refused = await guesser.post(path, json={"username": "olga", "password": OPERATORS_PASSWORD})
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "300"), path
            assert refused.json()["type"] == "/problems/too-many-requests"
            assert refused.json()["detail"].endswith(" Wait for 5 minutes.")
    async with browser(app, "198.51.100.7") as elsewhere:
        assert (await sign_in(elsewhere, "olga")).status_code == 200


async def test_a_network_of_ipv6_has_one_count(app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "MOST_REFUSED", 3)
    network = f"2001:db8:{uuid4().hex[:4]}:1"
    for number in range(3):
        assert (await guess(app, f"{network}::{number}")) == 401
    assert (await guess(app, f"{network}:ffff:1:2:3", OPERATORS_PASSWORD)) == 429
    assert (await guess(app, f"{network[:-1]}2::1", OPERATORS_PASSWORD)) == 200


@pytest.mark.parametrize("name", ["olga", "nobody"])
async def test_guesses_at_one_account_from_many_networks_have_to_wait(
    app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    allow_failures(monkeypatch, "_by_account", 4)

    async def guess_from(number: int) -> httpx.Response:
        async with browser(app, f"2001:db8:0:{number}::1") as guesser:
            return await sign_in(guesser, name, "a guess")

    answers = await asyncio.gather(*(guess_from(number) for number in range(5)))  # at once, as the wait is a second
    assert sorted(answer.status_code for answer in answers) == [401] * 4 + [429]
    (refused,) = (answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["detail"].endswith(" Retry in 1 second.")
    async with browser(app, "2001:db8:0:9::1") as elsewhere:
        assert (await sign_in(elsewhere, "somebody-else")).status_code == 401


async def test_guesses_at_one_account_from_one_network_have_to_wait(
    app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_failures(monkeypatch, "_by_pair", 3)
    guesses = await asyncio.gather(*(guess(app, f"2001:db8:7:7::{number}") for number in range(12)))
    assert sorted(guesses) == [401] * 3 + [429] * 9
    assert (await guess(app, "2001:db8:7:8::1", OPERATORS_PASSWORD)) == 200
    given = {"current_password": "a wrong one", "new_password": "a newer password"}
    given["confirm_new_password"] = given["new_password"]
    answers = [await operator.post(CHANGE_PASSWORD, json=given) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 429]


async def guess(app: Any, address: str, password: str = "a guess", name: str = "olga") -> int:
    async with browser(app, address) as guesser:
        return (await sign_in(guesser, name, password)).status_code


FORM = "/admin/api/forms/suspend-a-member/"
SUSPEND = {"member": "alice", "reason": "Spam.", "confirm": True}


@pytest.mark.parametrize("path", ["/admin/public/login/", "/admin/public/logout/", CHANGE_PASSWORD, FORM, FORM + "x/"])
async def test_a_body_is_bounded(app: Any, operator: Client, path: str) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield bytes(64 * 1024)

    async with browser(app) as visitor:
        for client in (visitor, operator):
            for body in (bytes(mount.MAX_BODY + 1), unannounced()):
                answer = await client.post(path, content=body)
                assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
        assert (await visitor.post(path, content=b" " * mount.MAX_BODY)).status_code < 500
    username = json.dumps({"username": " " * (mount.MAX_BODY - 40) + "nobody"})
    assert (await operator.post(FORM, content=username)).status_code != 413


async def test_bodies_that_are_arriving_have_a_budget_for_each_address(app: Any) -> None:
    release = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await release.wait()
        yield b"}"

    async with browser(app) as visitor, browser(app, "192.0.2.7") as other:
        login = "/admin/public/login/"
        arriving = [asyncio.create_task(visitor.post(login, content=stuck())) for _ in range(4)]
        await asyncio.sleep(0.05)
        refused = await visitor.post(login, content=stuck())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await other.post(login, json={})).status_code < 500
        release.set()
        assert all(answer.status_code < 500 for answer in await asyncio.gather(*arriving))
        assert (await visitor.post(login, json={})).status_code < 500


@pytest.mark.parametrize("path", ["/admin/public/login/", FORM])
async def test_a_slow_body_times_out(operator: Client, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(mount, "BODY_PATIENCE", 0.3)

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" "
            await asyncio.sleep(0.05)

    answer = await operator.post(path, content=slow())
    assert (answer.status_code, answer.json()["type"]) == (408, "/problems/request-timeout")


NO_OBJECTS = {
    "empty": "",
    "a list": "[]",
    "a string": '"x"',
    "null": "null",
    "a number": "1",
    "not UTF-8": b"\xff",
    "deep": "[" * 100_000,
    "deep in an object": '{"username":' + "[" * 100_000,
    "a surrogate": '{"username": "olga", "password": "\\ud800"}',
    "not finite": '{"username": 1e999}',
    "a form": "username=olga&password=x",
}


@pytest.mark.parametrize("path", ["/admin/public/login/", CHANGE_PASSWORD, FORM])
async def test_a_body_is_a_json_object(app: Any, operator: Client, path: str) -> None:
    async with browser(app) as visitor:
        for kind, body in NO_OBJECTS.items():
            for client in (visitor, operator):
                answer = await client.post(path, content=body)
                assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), kind
    given = {"current_password": OPERATORS_PASSWORD, "new_password": 7, "confirm_new_password": 7}
    assert (await operator.post(CHANGE_PASSWORD, json=given)).status_code == 400


def test_the_bounds_of_a_body() -> None:
    assert (mount.MAX_BODY, mount.BODY_PATIENCE) == (1024 * 1024, 10)


@pytest.mark.parametrize(("begun_at", "status"), [("same-origin", 200), ("same-site", 403), ("cross-site", 403)])
async def test_no_other_page_can_control_the_site(operator: Client, alice: Client, begun_at: str, status: int) -> None:
    answer = await operator.post(
        "/admin/api/forms/suspend-a-member/", json=SUSPEND, headers={"Sec-Fetch-Site": begun_at}
    )
    assert answer.status_code == status
    assert (await alice.get("/v1/users/me")).status_code == (401 if status == 200 else 200)
