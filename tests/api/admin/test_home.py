"""The Home of the admin site: counts, the state of the service, and the last actions."""

from typing import Any

import httpx
import pytest

from service.admin import home
from service.admin.operator_accounts import set_role
from service.database.engine import DB
from tests.conftest import PASSWORD, browser, character, signed_in

Client = httpx.AsyncClient

HOME = "/admin/api/home"
SUSPEND = {"member": "charlie", "reason": "Spam.", "confirm": True}

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def counts(operator: Client) -> dict[str, str]:
    return {each["name"]: each["count"] for each in (await operator.get(HOME)).json()["counts"]}


async def test_it_counts_members_and_characters(app: Any, operator: Client, alice: Client, charlie: Client) -> None:
    mira = await character(alice)
    await character(alice, name="Otto")
    await alice.delete(f"/v1/characters/{mira['id']}")
    dora = await signed_in(app, "dora")
    await dora.request("DELETE", "/v1/users/me", json={"password": PASSWORD})
    assert (await operator.post("/admin/api/forms/suspend-a-member/", json=SUSPEND)).status_code == 200
    found = await counts(operator)
    assert found.pop("Messages that wait").isdigit()
    assert found == {
        "Members": "3",
        "Members since yesterday": "3",
        "Suspended members": "1",
        "Deleted accounts": "1",
        "Characters": "2",
        "Characters since yesterday": "2",
        "Trash": "1",
    }


async def test_each_link_leads_to_a_list(operator: Client, alice: Client) -> None:
    for each in (await operator.get(HOME)).json()["counts"]:
        table, _, query = each["link"].removeprefix("#/").partition("/")
        answer = await operator.get(f"/admin/api/tables/{table}/{query}")
        assert answer.status_code == 200, each


async def test_large_tables_are_estimated(operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        await character(alice, name=f"Mira {number}")
    await DB.run_ddl("ANALYZE characters")
    monkeypatch.setattr(home, "MOST_COUNTED", 3)
    found = await counts(operator)
    assert (found["Characters"], found["Trash"], found["Members"]) == ("about 5", "not counted", "1")


async def test_it_tells_the_state_and_the_last_actions(operator: Client, charlie: Client) -> None:
    assert (await operator.post("/admin/api/forms/suspend-a-member/", json=SUSPEND)).status_code == 200
    shown: Any = (await operator.get(HOME)).json()
    states = {each["name"]: each["state"] for each in shown["state"]}
    assert (states["database"], states["migrations"], states["storage"]) == ("ok", "ok", "ok")
    made = next(
        each for each in shown["entries"] if each["action"] == "Suspended a member"
    )  # no test empties the audit log
    assert (made["who"], made["kind"], made["reason"]) == ("olga", "user", "Spam.")
    table, row = made["link"].removeprefix("#/").rstrip("/").split("/")
    assert (await operator.get(f"/admin/api/tables/{table}/{row}/")).json()["username"] == "charlie"
    assert {"charlie"} <= {each["who"] for each in shown["entries"]}  # who signed in


async def test_readers_see_it_and_strangers_do_not(app: Any, operator: Client, stranger: Client) -> None:
    await set_role("olga", "reader")
    assert (await operator.get(HOME)).status_code == 200
    async with browser(app) as unknown:
        assert (await unknown.get(HOME)).status_code == 401
    assert (await stranger.get(HOME)).status_code == 401
