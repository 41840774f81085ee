"""The Home of the admin site: counts, the state of the service, and the last actions."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.admin import home
from service.admin.operator_accounts import set_role
from service.database.engine import DB
from service.identifiers import uuid7
from service.mail.tables import Message
from tests.conftest import PASSWORD, browser, character, signed_in, template

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


async def test_each_link_leads_to_the_rows_that_were_counted(
    app: Any, operator: Client, alice: Client, charlie: Client
) -> None:
    """Of each kind there are rows that one count has, and another has not."""
    mira, rules = await character(alice), await character(alice, name="Otto")
    for each in (mira, rules):
        assert (await alice.delete(f"/v1/characters/{each['id']}")).status_code == 204
    assert (await alice.delete(f"/v1/trash/{rules['id']}")).status_code == 204  # an empty row stays
    await character(alice, name="Una")
    assert (await operator.post("/admin/api/forms/suspend-a-member/", json=SUSPEND)).status_code == 200
    dora = await signed_in(app, "dora")
    await dora.request("DELETE", "/v1/users/me", json={"password": PASSWORD})  # she is suspended and deleted
    old = "uuid_in(overlay(md5('{0}') placing '0100' from 1)::cstring)"
    await DB.run_ddl(f"INSERT INTO users (id, username) VALUES ({old.format('zoe')}, 'zoe')")
    await DB.run_ddl(
        "INSERT INTO characters (id, owner, name, visibility)"
        f" VALUES ({old.format('eve')}, {old.format('zoe')}, 'Eve', 'private')"
    )
    later = datetime(2099, 1, 1, tzinfo=UTC)
    await Message.insert(Message(id=uuid7(), kind="reset", address="a@example.org", due_at=later))
    told = {}
    for each in (await operator.get(HOME)).json()["counts"]:
        table, _, query = each["link"].removeprefix("#/").partition("/")
        path = f"/admin/api/tables/{table}/"
        listed = await operator.get(f"{path}{query}{'&' if query else '?'}__page_size=100")
        count = (await operator.get(f"{path}count/{query}")).json()["count"]
        assert (len(listed.json()["rows"]), str(count)) == (count, each["count"]), each
        told[each["name"]] = count
    assert told.pop("Messages that wait") >= 1
    assert told == {
        "Members": 4,
        "Members since yesterday": 3,
        "Suspended members": 1,
        "Deleted accounts": 1,
        "Characters": 4,
        "Characters since yesterday": 3,
        "Trash": 1,
    }


async def test_large_tables_are_estimated(operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        mira = await character(alice, name=f"Mira {number}")
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 204
    await DB.run_ddl("ANALYZE characters")
    monkeypatch.setattr(home, "MOST_COUNTED", 3)
    found = await counts(operator)
    assert (found["Characters"], found["Trash"], found["Members"]) == ("about 5", "1", "1")
    assert found["Characters since yesterday"] == "more than 3"


async def test_it_tells_the_state_and_the_last_actions(operator: Client, charlie: Client) -> None:
    assert (await operator.post("/admin/api/forms/suspend-a-member/", json=SUSPEND)).status_code == 200
    shown: Any = (await operator.get(HOME)).json()
    states = {each["name"]: each["state"] for each in shown["state"]}
    assert (states["database"], states["migrations"], states["storage"]) == ("ok", "ok", "ok")
    made = await newest_of(operator, "Suspended a member")
    assert (made["who"]["name"], made["reason"]) == ("olga", "Spam.")
    assert (made["row"]["name"], made["row"]["state"]) == ("charlie", "suspended")


async def newest_of(operator: Client, action: str) -> Any:
    entries = (await operator.get(HOME)).json()["entries"]
    return next(each for each in entries if each["action"]["name"] == action)  # no test empties the audit log


async def test_each_of_the_last_actions_names_its_row_and_links_to_it(
    operator: Client, alice: Client, stranger: Client
) -> None:
    """Each link leads to a row that is there."""
    mira, gone = await character(alice), await character(alice, name="Gone")
    published, given = await template(alice, name="Rules"), {"reason": "A test.", "confirm": True}
    official: Any = {"name": "Paladin", "attribute_schema": '{"type": "object"}'}
    for path, row in (("characters", mira), ("characters", gone), ("templates", published)):
        assert (await alice.delete(f"/v1/{path}/{row['id']}")).status_code == 204
    assert (await alice.delete(f"/v1/trash/{gone['id']}")).status_code == 204
    assert (await operator.post("/admin/api/forms/create-a-template/", json=official | given)).status_code == 200
    paladin = (await newest_of(operator, "Created a template"))["row"]
    again = {"template": paladin["link"].split("/")[2], "attribute_schema": official["attribute_schema"]}
    assert (await operator.post("/admin/api/forms/new-template-version/", json=again | given)).status_code == 200
    signed_in = await stranger.post("/v1/sessions", json={"login": "alice", "password": PASSWORD})
    assert signed_in.status_code == 201
    wrong = {"username": "olga", "password": "not her password"}
    assert (await operator.post("/admin/public/login/", json=wrong)).status_code == 401
    shown = {}
    for entry in (await operator.get(HOME)).json()["entries"][:8]:
        row, who = entry["row"], entry["who"]
        shown[entry["action"]["name"]] = (who["name"], row and row["name"])
        for each in (entry["action"], row, who):
            if each and each.get("link"):
                page = f"/admin/api/tables/{each['link'].removeprefix('#/')}"
                assert (await operator.get(page)).status_code == 200, each
        assert row is None or row["link"], entry
        assert who["name"] == "Somebody unknown" or who["link"], entry
    assert shown == {
        "Wrong password": ("Somebody unknown", "olga"),
        "Signed in": ("alice", "session"),
        "Created a template version": ("olga", "Version 2 of Paladin"),
        "Created a template": ("olga", "Paladin"),
        "Deleted a character for good": ("alice", gone["id"]),
        "Retired a template": ("alice", "Rules"),
        "Moved a character to the trash": ("alice", mira["name"]),
    }


async def test_readers_see_it_and_strangers_do_not(app: Any, operator: Client, stranger: Client) -> None:
    await set_role("olga", "reader")
    assert (await operator.get(HOME)).status_code == 200
    async with browser(app) as unknown:
        assert (await unknown.get(HOME)).status_code == 401
    assert (await stranger.get(HOME)).status_code == 401
