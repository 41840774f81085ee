"""``piccolo service operator …``: creates, changes, disables and lists operators."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from piccolo.apps.user.tables import BaseUser

from service.admin.operators import Operator, OperatorSession
from service.audit.tables import AuditEntry
from service.commands import operator as command
from service.database.engine import DB
from tests.conftest import OPERATORS_PASSWORD, browser, sign_in

Client = httpx.AsyncClient
TABLES = "/admin/api/tables/"
PASSWORD = "seven quiet harbours"

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


@pytest.fixture
async def run(
    operator: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Callable[..., Any]]:
    """Runs the command as `piccolo` does, with an event loop of its own. Returns what it prints."""
    monkeypatch.setattr(DB, "_idle", None)  # the pool is of another loop

    async def run(*arguments: str, password: str | None = None, **given: Any) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("" if password is None else f"{password}\n"))
        await asyncio.to_thread(command.operator, *arguments, **given)
        return capsys.readouterr().out

    yield run
    monkeypatch.undo()
    await Operator.delete(force=True)


async def newest_entry() -> tuple[Any, ...]:
    entry: Any = await AuditEntry.select().order_by(AuditEntry.id, ascending=False).first()
    return entry["action"], entry["kind"], entry["row"], entry["operator"], entry["address"]


async def id_of(name: str) -> str:
    found: Any = await BaseUser.select(BaseUser.id).where(BaseUser.username == name).first()
    return str(found["id"])


async def status_of(app: Any, name: str, password: str) -> int:
    async with browser(app) as visitor:
        return (await sign_in(visitor, name, password)).status_code


async def test_a_created_operator_signs_in(app: Any, run: Any) -> None:
    assert await run("create", username="oscar", password=PASSWORD) == "The administrator oscar is created.\n"
    assert await newest_entry() == ("create_operator", "operator", await id_of("oscar"), None, None)
    assert await status_of(app, "oscar", PASSWORD) == 200
    await run("create", "otto", email="otto@example.org", password=PASSWORD)
    found: Any = await BaseUser.select().where(BaseUser.username == "otto").first()
    assert (found["email"], found["active"], found["admin"]) == ("otto@example.org", True, True)


REFUSED_NAMES = {
    "olga": "There is an operator olga already.",
    "": "Give a name: piccolo service operator create --username=NAME",
    " oscar": "An operator's name has 1 to 100 printable characters, without spaces at its ends.",
    "o\tscar": "An operator's name has 1 to 100 printable characters, without spaces at its ends.",
    "o" * 101: "An operator's name has 1 to 100 printable characters, without spaces at its ends.",
}


@pytest.mark.parametrize("name", REFUSED_NAMES)
async def test_a_name_that_is_refused(run: Any, name: str) -> None:
    """Before the password is read."""
    with pytest.raises(SystemExit) as refusal:
        await run("create", username=name)
    assert refusal.value.code == REFUSED_NAMES[name]
    assert await BaseUser.count() == 1


async def test_an_address_belongs_to_one_operator(run: Any) -> None:
    with pytest.raises(SystemExit, match=r"Another operator has the e-mail address olga@example\.org\."):
        await run("create", username="oscar", email="olga@example.org", password=PASSWORD)
    with pytest.raises(SystemExit, match="is no e-mail address"):
        await run("create", username="oscar", email="olga", password=PASSWORD)


REFUSED_PASSWORDS = {
    "": "The password must have 10 to 128 characters.",
    "nine char": "The password must have 10 to 128 characters.",
    "x1" * 65: "The password must have 10 to 128 characters.",
    "olga-olga-olga": "The password must not be your own name or e-mail address.",
    "olga@example.org": "The password must not be your own name or e-mail address.",
    "password1234": "The password is one of the most common passwords: choose another.",
    "seven quiet\0harbours": "The password has a character that is not allowed.",
    "seven quiet\ud800harbours": "The password has a character that is not allowed.",
    "pbkdf2_sha256$600000$": "The password must not be a hash.",
}


@pytest.mark.parametrize("password", REFUSED_PASSWORDS)
async def test_operators_have_the_passwords_of_members(app: Any, run: Any, operator: Client, password: str) -> None:
    """The command refuses them, and so does the form of the site."""
    with pytest.raises(SystemExit) as refusal:
        await run("password", username="olga", password=password)
    assert refusal.value.code == REFUSED_PASSWORDS[password]
    if password.isprintable() and len(password) >= 10:
        given = {"current_password": OPERATORS_PASSWORD, "new_password": password, "confirm_new_password": password}
        answer = await operator.post("/admin/api/change-password/", json=given)
        assert (answer.status_code, answer.json()["detail"]) == (422, REFUSED_PASSWORDS[password])
    assert await status_of(app, "olga", OPERATORS_PASSWORD) == 200


async def test_a_new_password_ends_the_sessions(app: Any, run: Any, operator: Client) -> None:
    assert await run("password", username="olga", password=PASSWORD) == "The password of olga is changed.\n"
    assert await newest_entry() == ("change_password", "operator", await id_of("olga"), None, None)
    assert await OperatorSession.count() == 0
    assert (await operator.get(TABLES)).status_code == 401
    assert await status_of(app, "olga", OPERATORS_PASSWORD) == 401
    assert await status_of(app, "olga", PASSWORD) == 200


async def test_a_disabled_operator_is_out_at_once(app: Any, run: Any, operator: Client) -> None:
    assert await run("disable", username="olga") == "The operator olga is disabled.\n"
    assert await newest_entry() == ("disable_operator", "operator", await id_of("olga"), None, None)
    assert await OperatorSession.count() == 0
    assert (await operator.get(TABLES)).status_code == 401
    assert await status_of(app, "olga", OPERATORS_PASSWORD) == 401
    assert await run("disable", username="olga") == "The operator olga is disabled already.\n"
    assert await run("enable", username="olga") == "The operator olga is enabled.\n"
    assert await newest_entry() == ("enable_operator", "operator", await id_of("olga"), None, None)
    assert (await operator.get(TABLES)).status_code == 401, "no session comes back"
    assert await status_of(app, "olga", OPERATORS_PASSWORD) == 200


@pytest.mark.parametrize("action", ["password", "role", "disable", "enable"])
async def test_an_operator_that_is_not_there(run: Any, action: str) -> None:
    with pytest.raises(SystemExit, match=r"There is no operator nobody\."):
        await run(action, username="nobody", role="reader")


async def test_the_list_of_operators(run: Any) -> None:
    await run("create", username="oscar", role="moderator", password=PASSWORD)
    await run("disable", username="oscar")
    found: Any = await BaseUser.select(BaseUser.last_login).where(BaseUser.username == "olga").first()
    assert (await run("list")).splitlines() == [
        "username  state     role           second factor  last sign-in",
        f"olga      active    administrator  no             {found['last_login']:%Y-%m-%d %H:%M:%S} UTC",
        "oscar     disabled  moderator      no             never",
    ]


async def test_a_disabled_operator_keeps_the_name(app: Any, run: Any, operator: Client) -> None:
    """In what they did, in what was done to their account, and on their page, which another operator reads."""
    await run("create", username="oscar", password=PASSWORD)
    oscar = await id_of("oscar")
    assert await status_of(app, "oscar", "not his password") == 401
    assert await status_of(app, "oscar", PASSWORD) == 200
    await run("disable", username="oscar")
    async with browser(app) as olga:
        assert (await sign_in(olga, "olga")).status_code == 200
        shown = {each["title"]: each for each in (await details(olga, "piccolo_user", oscar))}
        rows = dict(shown["Operator"]["rows"])
        assert (rows["Role"], rows["State"], rows["Second factor"]) == ("administrator", "disabled", "none")
        assert rows["Last sign-in"].endswith(" UTC")
        assert rows["E-mail address"] == "none"  # Piccolo wants a value, so the name is stored
        named = {}
        for each in shown["More"]["links"]:
            table, _, query = each["link"].removeprefix("#/").partition("/")
            named[each["text"]] = (await olga.get(f"/admin/api/tables/{table}/{query}")).json()["rows"]
        assert {row["action"] for row in named["What they did"]} == {"sign_in"}
        about = {row["action"]: row["operator"] or json.loads(row["detail"])["username"] for row in
                 named["Entries about the account"]}  # fmt: skip
        assert about == dict.fromkeys(("create_operator", "refuse_password", "sign_in", "disable_operator"), "oscar")
        names = (await olga.get("/admin/api/names", params={"ids": oscar})).json()
        assert (names[oscar]["name"], names[oscar]["state"]) == ("oscar", "disabled")
        for nobody in ("0", "999999999", "x", "٣", "-1"):
            assert await details(olga, "piccolo_user", nobody) == []


async def details(visitor: Client, table: str, row: str) -> Any:
    answer = await visitor.get(f"/admin/api/details/{table}/{row}")
    assert answer.status_code == 200
    return answer.json()["sections"]


async def test_a_sign_in_is_one_that_opened_a_session(app: Any, run: Any, operator: Client) -> None:
    """Not each right password: the forms of the account ask for it, too."""
    await DB.run_ddl("UPDATE piccolo_user SET last_login = '2026-01-01'")
    await Operator.login("olga", OPERATORS_PASSWORD)
    assert "2026-01-01 00:00:00 UTC" in await run("list")
    assert await status_of(app, "olga", OPERATORS_PASSWORD) == 200
    assert "2026-01-01" not in await run("list")


@pytest.mark.parametrize("action", ["", "remove"])
async def test_an_unknown_action_names_the_others(run: Any, action: str) -> None:
    with pytest.raises(SystemExit, match=r"^Say what to do: piccolo service operator create\|password\|role\|"):
        await run(*([action] if action else []))


async def test_a_new_role_is_recorded(run: Any) -> None:
    assert await run("role", username="olga", role="reader") == "The role of olga is reader.\n"
    assert await newest_entry() == ("change_role", "operator", await id_of("olga"), None, None)
    assert await run("role", username="olga", role="reader") == "The role of olga is reader already.\n"
    assert await run("role", username="olga", role="administrator") == "The role of olga is administrator.\n"


@pytest.mark.parametrize(("action", "role"), [("create", "owner"), ("role", "owner"), ("role", "")])
async def test_an_unknown_role_names_the_others(run: Any, action: str, role: str) -> None:
    with pytest.raises(SystemExit, match=r"^The roles are reader, moderator and administrator\.$"):
        await run(action, username="olga", role=role)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_terminal_is_asked_for_an_address_and_twice_for_the_password(
    app: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [PASSWORD, "another", PASSWORD, PASSWORD]
    monkeypatch.setattr(command, "getpass", lambda _: answers.pop(0))
    monkeypatch.setattr(io, "StringIO", Terminal)
    with pytest.raises(SystemExit, match=r"The two passwords differ: nothing was changed\."):
        await run("create", username="oscar", password="oscar@example.org")  # what is entered, here for the address
    with pytest.raises(SystemExit, match="from standard input is no e-mail address"):
        await run("create", username="oscar", password="from standard input")
    assert await run("create", username="oscar", password="oscar@example.org")
    assert await status_of(app, "oscar", PASSWORD) == 200
    found: Any = await BaseUser.select().where(BaseUser.username == "oscar").first()
    assert found["email"] == "oscar@example.org"
