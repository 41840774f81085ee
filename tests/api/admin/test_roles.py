"""The roles of operators: what each may do in the admin site."""

from typing import Any

import httpx
import pyotp
import pytest
from piccolo.apps.user.tables import BaseUser

from service.admin import roles
from service.admin.operator_accounts import set_role
from service.admin.operators import SET_UP
from service.admin.roles import ROLES, Role
from tests.conftest import OPERATORS_PASSWORD, browser, client, sign_in

Client = httpx.AsyncClient

SUSPEND = "/admin/api/forms/suspend-a-member/"
REACTIVATE = "/admin/api/forms/reactivate-a-member/"

ALICE = {"member": "alice", "reason": "As agreed.", "confirm": True}

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def give(role: Role) -> None:
    await set_role("olga", role)


async def test_the_forms_of_moderators_are_there(operator: Client) -> None:
    slugs = {form["slug"] for form in (await operator.get("/admin/api/forms/")).json()}
    assert slugs > roles.MODERATION


@pytest.mark.parametrize(("role", "offered"), [("reader", set()), ("moderator", roles.MODERATION)])
async def test_an_operator_is_offered_the_forms_of_the_role(operator: Client, role: Role, offered: set[str]) -> None:
    await give(role)
    assert {form["slug"] for form in (await operator.get("/admin/api/forms/")).json()} == offered
    grouped = (await operator.get("/admin/api/forms/grouped/")).json()["grouped"]
    assert {form["slug"] for forms in grouped.values() for form in forms} == offered
    assert all(grouped.values())


async def test_who_is_not_signed_in_is_offered_no_form(app: Any, operator: Client) -> None:
    async with browser(app) as visitor:
        for path in ("/admin/api/forms/", "/admin/api/forms/grouped/"):
            assert (await visitor.get(path)).status_code == 401


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_looks(operator: Client, role: Role) -> None:
    await give(role)
    for table in ("users", "audit_log", "operator_roles"):
        assert (await operator.get(f"/admin/api/tables/{table}/")).status_code == 200
    assert (await operator.get(f"{SUSPEND}schema/")).status_code == 200


@pytest.mark.parametrize(("role", "status"), [("reader", 403), ("moderator", 200), ("administrator", 200)])
async def test_who_moderates(operator: Client, alice: Client, role: Role, status: int) -> None:
    await give(role)
    for form in (SUSPEND, REACTIVATE):
        answer = await operator.post(form, json=ALICE)
        assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["detail"] == "Your role is reader, which does not allow this."
        assert (await alice.get("/v1/users/me")).status_code == 200


@pytest.mark.parametrize(("role", "status"), [("reader", 403), ("moderator", 403), ("administrator", 200)])
async def test_other_forms_are_for_administrators(
    operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch, role: Role, status: int
) -> None:
    monkeypatch.setattr(roles, "MODERATION", frozenset({"reactivate-a-member"}))
    await give(role)
    assert (await operator.post(SUSPEND, json=ALICE)).status_code == status
    assert (await alice.get("/v1/users/me")).status_code == (401 if status == 200 else 200)


@pytest.mark.parametrize("path", [SUSPEND[:-1], SUSPEND.replace("forms", "%66orms"), f"{SUSPEND}?a=b", f"{SUSPEND}x/"])
async def test_no_spelling_of_a_path_passes_the_check(operator: Client, alice: Client, path: str) -> None:
    await give("reader")
    assert (await operator.post(path, json=ALICE)).status_code in (403, 404, 405)
    assert (await alice.get("/v1/users/me")).status_code == 200


SENT = pytest.mark.parametrize(
    "cookies",
    [
        ["csrftoken={csrf}", "id={token}"],
        ["id={token}", "csrftoken={csrf}"],
        ["csrftoken={csrf}; id=bogus", "id={token}"],
        ["id=bogus", "csrftoken={csrf}; id={token}"],
        ["csrftoken={csrf}; id=bogus; id={token}"],
        ["csrftoken={csrf}; id={token}; id=bogus"],
        ['csrftoken={csrf}; id="{token}"'],
        ["csrftoken={csrf}; id = {token}"],
        ["csrftoken={csrf}; ID={token}"],
        ["csrftoken={csrf}; id=; id={token}"],
        ["csrftoken={csrf}"],
    ],
)


async def suspend(app: Any, operator: Client, cookies: list[str]) -> httpx.Response:
    """Sends the form with these headers of cookies, as no browser does."""
    token, csrf = operator.cookies["id"], operator.cookies["csrftoken"]
    headers = [("Cookie", cookie.format(csrf=csrf, token=token)) for cookie in cookies]
    async with client(app, **{"X-CSRFToken": csrf}) as sender:
        return await sender.post(SUSPEND, json=ALICE, headers=[*headers, ("Content-Type", "application/json")])


@SENT
async def test_no_spelling_of_the_session_passes_the_check(
    app: Any, operator: Client, alice: Client, cookies: list[str]
) -> None:
    await give("reader")
    assert (await suspend(app, operator, cookies)).status_code in (400, 401, 403)
    assert (await alice.get("/v1/users/me")).status_code == 200


@SENT
async def test_a_form_checks_the_role_itself(
    app: Any, operator: Client, alice: Client, cookies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "_OWN_ACCOUNT", (SUSPEND,))  # so the check in front of the site passes
    await give("reader")
    answer = await suspend(app, operator, cookies)
    assert answer.status_code in (401, 403)
    if cookies[0] == "csrftoken={csrf}; id={token}":
        assert answer.json()["detail"] == "Your role is reader, which does not allow this."
    assert (await alice.get("/v1/users/me")).status_code == 200


async def test_cookies_may_be_in_several_headers(app: Any, operator: Client, alice: Client) -> None:
    """As a proxy sends them that does not join what arrived over HTTP/2."""
    answer = await suspend(app, operator, ["csrftoken={csrf}", "id={token}"])
    assert answer.status_code == 200, answer.text
    assert (await alice.get("/v1/users/me")).status_code == 401


async def test_a_new_role_counts_in_open_sessions(operator: Client, alice: Client) -> None:
    await give("reader")
    assert (await operator.post(SUSPEND, json=ALICE)).status_code == 403
    await give("moderator")
    assert (await operator.post(SUSPEND, json=ALICE)).status_code == 200


async def test_a_reader_keeps_the_own_account(app: Any, operator: Client) -> None:
    await give("reader")
    token = operator.cookies["csrftoken"]
    given = {"action": "add", "password": OPERATORS_PASSWORD, "csrftoken": token}
    page = (await operator.post(SET_UP, data=given)).text
    code = pyotp.TOTP(page.partition("<code>")[2].partition("</code>")[0]).now()
    assert (await operator.post(SET_UP, data=given | {"action": "activate", "code": code})).status_code == 200
    given = {"current_password": OPERATORS_PASSWORD, "new_password": "a newer password"}
    given["confirm_new_password"] = given["new_password"]
    assert (await operator.post("/admin/api/change-password/", json=given)).status_code == 303
    async with browser(app) as again:
        answer = await sign_in(again, "olga", "a newer password")
        assert answer.json() == {"detail": "MFA code required"}


async def test_without_a_session_the_site_refuses(app: Any, operator: Client) -> None:
    async with browser(app) as visitor:
        visitor.cookies.set("id", "unknown")
        assert (await visitor.post(SUSPEND, json=ALICE)).status_code == 401


async def test_a_former_operators_session_is_refused_whatever_the_role(operator: Client) -> None:
    await give("administrator")
    await BaseUser.update({BaseUser.active: False}, force=True)
    assert (await operator.post(SUSPEND, json=ALICE)).status_code == 401


async def test_a_reader_signs_out_and_in(operator: Client) -> None:
    await give("reader")
    assert (await operator.post("/admin/public/logout/")).status_code == 200
    assert (await sign_in(operator, "olga")).status_code == 200
    await give("reader")
    assert (await sign_in(operator, "olga")).status_code == 200, "beside an open session"
