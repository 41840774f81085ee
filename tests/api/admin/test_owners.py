"""To which entries of the audit log a member's page leads: all that operators did to the member and their things."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest

from service.audit.tables import AuditEntry
from service.templates.tables import Template
from tests.api.admin.test_details import sections
from tests.api.admin.test_forms import SCHEMA, edit, id_of, submit
from tests.conftest import FIGHTER, PASSWORD, character, relationship, template
from tests.support.cards import V2

Client = httpx.AsyncClient

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


class Things(NamedTuple):
    """What Alice has, and a template of the platform."""

    mira: Any
    joss: Any
    trashed: Any
    family: Any
    rules: Any
    official: str


Fields = dict[str, Any]
# By form, in an order in which all can be done: what is entered
OF_ALICE: dict[str, Callable[[Things], Fields]] = {
    "edit-a-relationship": lambda of: {"relationship": of.family, "version": 1, "description": "Estranged."},
    "edit-a-character": lambda of: edit(of.mira, name="Una"),
    "hide-a-character": lambda of: {"character": of.joss["id"]},
    "restore-a-character": lambda of: {"character": of.trashed["id"]},
    "delete-a-character": lambda of: {"character": of.trashed["id"]},
    "delete-a-character-for-good": lambda of: {"character": of.trashed["id"]},
    "remove-a-relationship": lambda of: {"relationship": of.family},
    "add-a-relationship": lambda of: {"character": of.mira["id"], "target": of.joss["id"], "type": "rival_of"},
    "hide-a-template": lambda of: {"template": of.rules["id"]},
    "import-a-card": lambda _: {"member": "alice", "card": json.dumps(V2)},
    "export-an-account": lambda _: {"member": "alice"},
    "end-sessions-and-keys": lambda _: {"member": "alice"},
    "suspend-a-member": lambda _: {"member": "alice"},
    "reactivate-a-member": lambda _: {"member": "alice"},
    "resend-verification": lambda _: {"member": "alice"},
    "delete-an-account": lambda _: {"member": "alice"},
}
OF_NOBODY: dict[str, Callable[[Things], Fields]] = {
    "create-a-template": lambda _: {"name": "Bard", "attribute_schema": json.dumps(FIGHTER)},
    "edit-a-template": lambda of: {"template": of.official, "version": 1, "name": "Paladin"},
    "new-template-version": lambda of: {"template": of.official, "attribute_schema": json.dumps(SCHEMA)},
    "publish-a-version": lambda of: {"template": of.official, "number": 2},
    "deprecate-a-version": lambda of: {"template": of.official, "number": 1},
    "retire-a-template": lambda of: {"template": of.official},
}
OTHERS = {"run-housekeeping"}  # which takes seconds, and is about no row


@pytest.fixture
async def things(operator: Client, alice: Client) -> Things:
    mira, joss, trashed = [await character(alice, name=name, visibility="public") for name in ("Mira", "Joss", "Lost")]
    family = await relationship(alice, mira, joss)
    rules = await template(alice, visibility="public")
    assert (await alice.delete(f"/v1/characters/{trashed['id']}")).status_code == 204
    given = OF_NOBODY["create-a-template"](None)  # type: ignore[arg-type] # it takes nothing of it
    assert (await submit(operator, "create-a-template", **given)).status_code == 200
    official: Any = await Template.select(Template.id).where(Template.owner.is_null()).first()
    return Things(mira, joss, trashed, family["id"], rules, str(official["id"]))


async def test_every_form_is_here(operator: Client) -> None:
    offered = {form["slug"] for form in (await operator.get("/admin/api/forms/")).json()}
    assert offered == {*OF_ALICE, *OF_NOBODY, *OTHERS}


async def did(operator: Client, member: str) -> list[str]:
    """The ids of the entries that the page of a member links to."""
    links = {link["text"]: link["link"] for link in (await sections(operator, "users", member))["More"]["links"]}
    table, _, query = links["What operators did to them"].removeprefix("#/").partition("/")
    answer = await operator.get(f"/admin/api/tables/{table}/{query}&__page_size=100")
    return [row["id"] for row in answer.json()["rows"]]


async def test_the_page_of_a_member_leads_to_all_that_operators_did(
    operator: Client, alice: Client, charlie: Client, things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def may(*_: Any) -> bool:  # no minute has passed since the sign-up
        return True

    monkeypatch.setattr("service.admin.member_forms.may_mint", may)
    member, other = await id_of(alice), await id_of(charlie)
    expected: list[str] = []
    for forms, is_alices in ((OF_ALICE, True), (OF_NOBODY, False)):
        for form, fields in forms.items():
            before = {row["id"] for row in await AuditEntry.select(AuditEntry.id)}
            answer = await submit(operator, form, **fields(things))
            assert answer.status_code == 200, (form, answer.text)
            made = [row for row in await AuditEntry.select() if row["id"] not in before]
            assert made, form
            assert {str(row["owner"]) for row in made} == {member if is_alices else "None"}, form
            assert {row["operator"] for row in made} == {"olga"}
            expected += [str(row["id"]) for row in made if is_alices]
    assert sorted(await did(operator, member)) == sorted(expected)
    assert await did(operator, other) == []


async def test_what_members_and_commands_do_has_no_owner(
    operator: Client, alice: Client, charlie: Client, stranger: Client
) -> None:
    member, other = await id_of(alice), await id_of(charlie)
    mira = await character(alice)
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 204
    assert (await stranger.post("/v1/sessions", json={"login": "alice", "password": "a guess"})).status_code == 401
    assert (await charlie.request("DELETE", "/v1/users/me", json={"password": PASSWORD})).status_code == 204
    assert (await did(operator, member), await did(operator, other)) == ([], [])


async def test_an_entry_names_the_owner(operator: Client, alice: Client, things: Things) -> None:
    member = await id_of(alice)
    assert (await submit(operator, "hide-a-character", character=things.mira["id"])).status_code == 200
    [entry] = await did(operator, member)
    shown = (await sections(operator, "audit_log", entry))["Entry"]["rows"]
    assert ["Owner", {"id": member, "text": member}] in shown


async def test_the_entries_outlive_the_account(operator: Client, alice: Client) -> None:
    """Also who deleted it, and why."""
    member = await id_of(alice)
    assert (await submit(operator, "delete-an-account", member="alice")).status_code == 200
    await AuditEntry.raw("DELETE FROM users WHERE id = {}", member)
    [entry] = (await operator.get(f"/admin/api/tables/audit_log/?owner={member}")).json()["rows"]
    assert (entry["row"], entry["operator"], json.loads(entry["detail"])["reason"]) == (
        member,
        "olga",
        "As report 7 says.",
    )
