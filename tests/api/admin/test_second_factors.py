"""Operators' second factors: what is needed to sign in, and which attacks fail."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextvars import Context
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pyotp
import pytest
from piccolo.apps.user.tables import BaseUser
from piccolo_api.encryption.providers import FernetProvider

from service.admin import mount, operators, second_factors
from service.admin.operators import SET_UP, SET_UP_HEADER, OperatorSession
from service.admin.second_factors import STEP, SecondFactor, encryption_key
from service.audit.tables import AuditEntry
from service.commands.remove_second_factor import remove_second_factor
from tests.conftest import OPERATORS_PASSWORD, browser, sign_in
from tests.support.backoff import allow_failures

Client = httpx.AsyncClient

TABLES = "/admin/api/tables/"
LOGIN = "/admin/public/login/"

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


class Clock:
    now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(second_factors, "time", clock)
    return clock


class Phone:
    """An authenticator app."""

    def __init__(self, secret: str, clock: Clock, recovery_codes: list[str]) -> None:
        self._totp, self._clock = pyotp.TOTP(secret), clock
        self.recovery_codes = recovery_codes

    def code(self, steps: int = 0) -> str:
        """The code of now, or of some steps later."""
        return self._totp.generate_otp(int(self._clock.now) // STEP + steps)

    def next_code(self) -> str:
        self._clock.now += STEP
        return self.code()


async def submit(operator: Client, action: str, password: str = OPERATORS_PASSWORD, code: str = "") -> httpx.Response:
    form = {"action": action, "password": password, "code": code, "csrftoken": operator.cookies["csrftoken"]}
    return await operator.post(SET_UP, data=form)


@pytest.fixture
async def session_without_code(app: Any, operator: Client) -> AsyncIterator[Client]:
    """Another session of Olga, from before her second factor."""
    async with browser(app) as visitor:
        assert (await sign_in(visitor, "olga")).status_code == 200
        yield visitor


@pytest.fixture
async def unused_phone(operator: Client, clock: Clock) -> Phone:
    """The phone of Olga, who has begun to set up her second factor."""
    return await begin(operator, clock)


async def begin(operator: Client, clock: Clock) -> Phone:
    added = await submit(operator, "add")
    assert added.status_code == 200, added.text
    row: Any = await SecondFactor.select(SecondFactor.secret).first()
    recovery_codes = added.text.partition("<pre>")[2].partition("</pre>")[0].split()
    return Phone(FernetProvider(encryption_key()).decrypt(row["secret"]), clock, recovery_codes)


@pytest.fixture
async def phone(operator: Client, clock: Clock, unused_phone: Phone) -> Phone:
    """The phone of Olga, who has set up her second factor."""
    activated = await submit(operator, "activate", code=unused_phone.code())
    assert activated.status_code == 200, activated.text
    clock.now += 2 * STEP  # the codes of now are unused, also on a clock that is slow
    return unused_phone


async def log_in(app: Any, code: Any, address: str = "127.0.0.1", password: str = OPERATORS_PASSWORD) -> httpx.Response:
    async with browser(app, address) as visitor:
        return await visitor.post(LOGIN, json={"username": "olga", "password": password, "mfa_code": code})


async def actions() -> list[str]:
    """The actions of the three newest entries, the newest first."""
    rows: Any = await AuditEntry.select(AuditEntry.action).order_by(AuditEntry.created_at, ascending=False).limit(3)
    return [row["action"] for row in rows]


async def test_signing_in_needs_a_code(app: Any, phone: Phone) -> None:
    assert (await actions())[0] == "add_second_factor"
    async with browser(app) as visitor:
        asked = await sign_in(visitor, "olga")
        assert (asked.status_code, asked.json()) == (401, {"detail": "MFA code required"})
        assert (await visitor.get(TABLES)).status_code == 401
    assert (await log_in(app, phone.code(), password="not her password")).status_code == 401
    assert (await actions())[0] == "refuse_password"
    for wrong in ("000000", "", 7, ["123456"], phone.code(2), phone.code(-2), phone.code()[:5], "x" * 100_000, "\0"):
        assert (await log_in(app, wrong)).status_code == 401, wrong
    assert (await actions())[0] == "refuse_code"
    code = phone.code()
    assert (await log_in(app, f" {code[:3]} {code[3:]} ")).status_code == 200
    assert (await actions())[0] == "sign_in"


STATES = {
    "You have no second factor: you sign in with your password alone.": ["add"],
    "Your second factor is not active yet: you sign in with your password alone.": ["activate", "add"],
    "Your second factor is active: you sign in with a code of an authenticator app.": ["remove"],
}


async def state_of(operator: Client) -> list[str]:
    """What the page offers; it says in one sentence which state this is."""
    page = (await operator.get(SET_UP)).text
    [state] = [sentence for sentence in STATES if sentence in page]
    offered = re.findall('name="action" value="([a-z]+)"', page)
    assert offered == STATES[state]
    return offered


async def test_a_second_factor_is_needed_after_its_first_right_code(
    app: Any, operator: Client, session_without_code: Client, clock: Clock
) -> None:
    """An operator who closes the page signs in as before."""
    assert await state_of(operator) == ["add"]
    phone = await begin(operator, clock)
    assert await state_of(operator) == ["activate", "add"]
    assert (await actions())[0] == "sign_in", "of the fixture: nothing is added yet"
    assert (await session_without_code.get(TABLES)).status_code == 200
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200
        assert await state_of(again) == ["activate", "add"]
    for wrong in ("000000", "", "\u0661" * 6, phone.code(2), phone.code(-2), phone.recovery_codes[0]):
        refused = await submit(operator, "activate", code=wrong)
        assert (refused.status_code, "The code is not right." in refused.text) == (401, True), wrong
        assert "recovery codes were shown once. If you have not kept" in refused.text
        assert (await actions())[0] == "refuse_code"
    assert (await log_in(app, None)).status_code == 200
    code = phone.code()
    assert (await submit(operator, "activate", password="", code=f"{code[:3]} {code[3:]}")).status_code == 200
    assert (await actions())[0] == "add_second_factor"
    assert await state_of(operator) == ["remove"]
    assert (await session_without_code.get(TABLES)).status_code == 401
    assert (await log_in(app, None)).status_code == 401
    assert (await log_in(app, code)).status_code == 401, "it is used up"
    assert (await log_in(app, phone.next_code())).status_code == 200
    assert (await log_in(app, phone.recovery_codes[0])).status_code == 200


async def test_a_begun_second_factor_is_replaced(app: Any, operator: Client, clock: Clock) -> None:
    former, phone = await begin(operator, clock), await begin(operator, clock)
    assert await SecondFactor.count() == 1
    assert (await submit(operator, "activate", code=former.code())).status_code == 401
    assert (await submit(operator, "activate", code=phone.code())).status_code == 200
    assert (await log_in(app, former.recovery_codes[0])).status_code == 401
    assert (await log_in(app, phone.recovery_codes[0])).status_code == 200


async def test_of_concurrent_codes_one_activates(operator: Client, unused_phone: Phone) -> None:
    code = unused_phone.code()
    answers = await asyncio.gather(*(submit(operator, "activate", code=code) for _ in range(4)))
    assert 200 in {answer.status_code for answer in answers}
    added = await AuditEntry.count().where(AuditEntry.action == "add_second_factor", AuditEntry.row == await olgas_id())
    assert added == 1


async def olgas_id() -> str:
    [row] = await BaseUser.select(BaseUser.id)
    return str(row["id"])


@pytest.mark.parametrize("clock_of_the_phone", [-1, 0, 1])
async def test_the_clock_of_a_phone_may_differ_a_little(app: Any, phone: Phone, clock_of_the_phone: int) -> None:
    assert (await log_in(app, phone.code(clock_of_the_phone))).status_code == 200


async def test_a_code_works_once(app: Any, phone: Phone) -> None:
    code = phone.code()
    answers = await asyncio.gather(*(log_in(app, code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    full_width = code.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})
    for replayed in (code, f"{code[:3]} {code[3:]}", full_width, phone.code(-1)):
        assert (await log_in(app, replayed)).status_code == 401, replayed
    assert (await log_in(app, phone.next_code())).status_code == 200
    assert (await log_in(app, code)).status_code == 401, "an earlier one"


async def test_a_recovery_code_works_once(app: Any, phone: Phone) -> None:
    assert len(set(phone.recovery_codes)) == 8
    first, second, *_ = phone.recovery_codes
    answers = await asyncio.gather(*(log_in(app, first) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]
    assert (await log_in(app, first)).status_code == 401
    assert (await log_in(app, f" {second.upper()}\n")).status_code == 200
    assert (await actions())[:2] == ["sign_in", "use_recovery_code"]
    used: Any = await AuditEntry.select(AuditEntry.operator).where(
        AuditEntry.action == "use_recovery_code", AuditEntry.row == await olgas_id()
    )
    assert used == [{"operator": "olga"}] * 2


async def test_sessions_from_before_the_second_factor_end(
    session_without_code: Client, operator: Client, phone: Phone
) -> None:
    assert (await session_without_code.get(TABLES)).status_code == 401
    assert (await operator.get(TABLES)).status_code == 200, "the one that has added it"


async def test_a_sign_in_during_the_set_up_needs_a_code(
    app: Any, operator: Client, unused_phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has checked the password, and found no second factor, before there is one."""

    async def add_meanwhile(**given: Any) -> OperatorSession:
        await asyncio.create_task(submit(operator, "activate", code=unused_phone.code()), context=Context())
        return await create(**given)

    create = OperatorSession.create_session
    monkeypatch.setattr(OperatorSession, "create_session", add_meanwhile)
    async with browser(app) as visitor:
        refused = await sign_in(visitor, "olga")
    assert (refused.status_code, await state_of(operator)) == (401, ["remove"])


async def test_the_database_holds_no_code(phone: Phone) -> None:
    [row] = await SecondFactor.select()
    assert row["secret"].startswith("fernet-")
    assert all(re.fullmatch("[0-9a-f]{64}", code) for code in row["recovery_codes"])
    assert not [code for code in phone.recovery_codes if code in str(row)]


@pytest.mark.parametrize("is_recovery_code", [False, True])
async def test_removing_needs_the_password_and_a_code(
    app: Any, operator: Client, phone: Phone, is_recovery_code: bool
) -> None:
    code = phone.recovery_codes[0] if is_recovery_code else phone.code()
    for password, given, reason in (
        ("not her password", code, "The password is not right."),
        ("", code, "The password is not right."),
        (OPERATORS_PASSWORD, "000000", "The code is not right."),
        (OPERATORS_PASSWORD, "", "The code is not right."),
    ):
        refused = await submit(operator, "remove", password, given)
        assert (refused.status_code, reason in refused.text) == (401, True)
    assert (await log_in(app, None)).status_code == 401
    removed = await submit(operator, "remove", code=code)
    assert (removed.status_code, "is removed" in removed.text) == (200, True)
    assert (await actions())[0] == "remove_second_factor"
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200


async def test_the_command_removes_a_lost_second_factor(
    app: Any, operator: Client, phone: Phone, capsys: pytest.CaptureFixture[str]
) -> None:
    await remove_second_factor("olga")
    assert capsys.readouterr().out == "The second factor of olga is removed.\n"
    assert (await actions())[0] == "remove_second_factor"
    assert (await operator.get(TABLES)).status_code == 401
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200
    for name, refusal in (("olga", "olga has no second factor."), ("nobody", "There is no operator nobody.")):
        with pytest.raises(SystemExit, match=refusal):
            await remove_second_factor(name)


async def test_a_second_factor_is_not_replaced(operator: Client, phone: Phone) -> None:
    [before] = await SecondFactor.select()
    again = await submit(operator, "add")
    assert "data:image/png" not in again.text
    assert 'value="remove"' in again.text
    assert await SecondFactor.select() == [before]


async def test_of_two_tabs_one_adds_a_second_factor(
    operator: Client, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    [before] = await SecondFactor.select()
    find_state = SecondFactor.find_state

    async def not_yet(user_id: int) -> None:
        monkeypatch.setattr(SecondFactor, "find_state", find_state)

    monkeypatch.setattr(SecondFactor, "find_state", not_yet)
    second = await submit(operator, "add")
    assert (second.status_code, 'value="remove"' in second.text) == (200, True)
    assert await SecondFactor.select() == [before]


async def test_adding_needs_the_password(operator: Client, clock: Clock) -> None:
    for password in ("not her password", ""):
        assert (await submit(operator, "add", password)).status_code == 401
    assert await SecondFactor.count() == 0
    entry: Any = await AuditEntry.select().order_by(AuditEntry.created_at, ascending=False).first()
    assert (entry["action"], entry["operator"]) == ("refuse_password", "olga")  # the session identifies her


async def test_wrong_codes_count_as_wrong_passwords(app: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right password between two guesses does not make them free."""
    allow_failures(monkeypatch, "_by_pair", 3)
    for _ in range(3):
        assert (await log_in(app, None)).status_code == 401
        assert (await log_in(app, "000000")).status_code == 401
    refused = await log_in(app, phone.code())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (await log_in(app, phone.code(), "192.0.2.9")).status_code == 200


async def test_a_right_code_resets_the_failures(app: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_failures(monkeypatch, "_by_pair", 3)
    for _ in range(3):
        assert [(await log_in(app, "000000")).status_code for _ in range(2)] == [401, 401]
        assert (await log_in(app, phone.next_code())).status_code == 200


async def test_a_change_of_the_password_is_no_failure(
    app: Any, operator: Client, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_failures(monkeypatch, "_by_pair", 1)
    passwords = dict.fromkeys(("new_password", "confirm_new_password"), "a newer password")
    given = passwords | {"current_password": OPERATORS_PASSWORD}
    assert (await operator.post("/admin/api/change-password/", json=given)).status_code == 303
    assert (await log_in(app, phone.code(), password="a newer password")).status_code == 200


async def test_concurrent_guesses_at_codes_are_all_counted(
    app: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_failures(monkeypatch, "_by_pair", 3)
    answers = await asyncio.gather(*(log_in(app, f"{number:06}", "192.0.2.7") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [401] * 3 + [429] * 5


async def test_guesses_at_codes_from_one_ipv6_network_have_one_count(
    app: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "MOST_REFUSED", 3)
    network = f"2001:db8:{uuid4().hex[:4]}:1"
    for number in range(3):
        assert (await log_in(app, "000000", f"{network}::{number}")).status_code == 401
    assert (await log_in(app, phone.code(), f"{network}:ffff::1")).status_code == 429
    assert (await log_in(app, phone.code(), f"{network[:-1]}2::1")).status_code == 200
    async with browser(app, f"{network}::9") as visitor:
        refused = await submit(visitor, "add")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "300")


async def test_another_key_opens_nothing(app: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    row: Any = await SecondFactor.select(SecondFactor.user_id).first()
    monkeypatch.setattr(second_factors, "settings", SimpleNamespace(second_factor_key="another"))
    other = FernetProvider(encryption_key())
    for code in (phone.code(), phone.recovery_codes[0]):
        assert not await SecondFactor.authenticate(row["user_id"], code, other)


async def test_the_page_is_for_operators_and_their_own_forms(app: Any, operator: Client, alice: Client) -> None:
    page = await operator.get(SET_UP)
    policy = page.headers["content-security-policy"]
    assert {"default-src 'none'", "form-action 'self'", "img-src data:"} <= set(policy.split("; "))
    assert "script-src" not in policy
    async with browser(app) as visitor:
        for each in (visitor, alice):
            assert (await each.get(SET_UP)).status_code == 401
        assert (await submit(visitor, "add")).status_code == 401
    for body in ("{}", "7", "action", '{"action": "add"}', b"\xff=1", "a=\0", ""):
        assert (await operator.post(SET_UP, content=body)).status_code == 400, body
    form = {"action": "add", "password": OPERATORS_PASSWORD}
    other_site = {"Sec-Fetch-Site": "cross-site"}
    assert (await operator.post(SET_UP, data=form, headers=other_site)).status_code == 403
    assert (await operator.post(SET_UP, content="action=add", headers={"Content-Type": "text/plain"})).status_code < 500
    del operator.headers["X-CSRFToken"]
    assert (await operator.post(SET_UP, data=form)).status_code == 403
    assert (await operator.post(SET_UP, data=form | {"csrftoken": "another"})).status_code == 403
    assert await SecondFactor.count() == 0


async def test_a_second_factor_can_be_obligatory(
    app: Any, operator: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = SimpleNamespace(second_factor_key="x", second_factor_required=True)
    monkeypatch.setattr(operators, "settings", required)
    for path in (TABLES, "/admin/api/user/", f"{SET_UP}x", "/admin/api/mfa-setup"):
        refused = await operator.get(path, follow_redirects=False)
        assert (refused.status_code, refused.headers.get(SET_UP_HEADER)) == (403, SET_UP), path
    assert (await operator.post("/admin/api/forms/suspend-a-member/", json={"member": "alice"})).status_code == 403
    assert (await operator.get(SET_UP)).status_code == 200
    assert (await operator.get("/admin/answers.js")).headers["content-type"].startswith("text/javascript")
    phone = await begin(operator, clock)
    assert (await operator.get(TABLES)).status_code == 403, "not before the first code"
    assert (await submit(operator, "activate", code=phone.code())).status_code == 200
    assert (await operator.get(TABLES)).status_code == 200


async def test_a_new_password_ends_a_stolen_session(app: Any, operator: Client) -> None:
    """As `piccolo user change_password` sets it, which knows nothing of sessions."""
    [before] = await BaseUser.select(BaseUser.password)
    assert (await operator.get(TABLES)).status_code == 200
    await BaseUser.update_password("olga", "a newer password")
    assert (await operator.get(TABLES)).status_code == 401
    assert (await submit(operator, "add")).status_code == 401
    await BaseUser.update({BaseUser.password: before["password"]}, force=True)
    assert (await operator.get(TABLES)).status_code == 401, "it does not come back"
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200


@pytest.mark.parametrize("lost", ["active", "admin"])
async def test_a_former_operators_session_does_not_come_back(operator: Client, lost: str) -> None:
    await BaseUser.update({lost: False}, force=True)
    assert (await operator.get(TABLES)).status_code == 401
    await BaseUser.update({lost: True}, force=True)
    assert (await operator.get(TABLES)).status_code == 401


async def test_sessions_survive_a_stronger_hash_of_the_same_password(
    app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseUser, "_pbkdf2_iteration_count", 1001)
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200
        [row] = await BaseUser.select(BaseUser.password)
        assert row["password"].split("$")[1] == "1001"
        assert {(await each.get(TABLES)).status_code for each in (operator, again)} == {200}


async def test_strangers_cannot_lock_an_operator_out(
    app: Any, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_failures(monkeypatch, "_by_account", 3)
    home = f"192.0.2.{uuid4().int % 250}"
    async with browser(app, home) as olga:
        assert (await sign_in(olga, "olga")).status_code == 200
    for number in range(3):
        async with browser(app, f"2001:db8:0:{number}::1") as stranger:
            assert (await sign_in(stranger, "olga", "a guess")).status_code == 401
    async with browser(app, "203.0.113.9") as elsewhere:
        assert (await sign_in(elsewhere, "olga")).status_code == 429
    async with browser(app, home) as olga:
        assert (await sign_in(olga, "olga")).status_code == 200
        assert (await sign_in(olga, "nobody")).status_code == 401
