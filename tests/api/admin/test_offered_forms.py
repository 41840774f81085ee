"""The page of a row offers the forms that apply to its state. The others say what the state is, and change nothing."""

import json
from typing import Any

import httpx
import pytest

from service.admin.offered_forms import APPLIES
from service.admin.operator_accounts import set_role
from service.audit.tables import AuditEntry
from service.auth.suspensions import suspend_user
from service.templates.tables import Template, TemplateVersion
from service.users.tables import User
from tests.api.admin.test_forms import SCHEMA, edit, id_of, submit
from tests.conftest import FIGHTER, PASSWORD, account_id, browser, character, relationship, signed_in, template
from tests.support.cards import V2

Client = httpx.AsyncClient
Rows = dict[str, tuple[str, dict[str, Any]]]  # by state: the id of a row, and what its forms are filled with

NOBODY = "00000000-0000-0000-0000-000000000001"

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def offered(operator: Client, table: str, row: Any) -> set[str]:
    answer = await operator.get(f"/admin/api/forms/of/{table}/{row}/")
    assert answer.status_code == 200
    return set(answer.json())


async def members(app: Any, alice: Client) -> Rows:
    states: Rows = {}
    for state in ("unverified", "verified", "suspended", "deleted", "without an address"):
        member = await signed_in(app, name := state.split()[0])
        states[state] = (row := await id_of(member), {"member": row, "card": json.dumps(V2)})
        if state == "deleted":
            await member.request("DELETE", "/v1/users/me", json={"password": PASSWORD})
        if state == "suspended":
            await suspend_user(await account_id(name))
    await User.raw("UPDATE users SET email_verified_at = now() WHERE username = 'verified'")
    await User.raw("UPDATE users SET email = NULL, email_key = NULL WHERE username = 'without'")
    return states


async def characters(app: Any, alice: Client) -> Rows:
    joss, states = await character(alice, name="Joss"), {}
    for state in ("public", "private", "in the trash", "deleted for good"):
        row = await character(alice, name=state, visibility="private" if state == "private" else "public")
        filled = edit(row, name="Another") | {"target": joss["id"], "type": "rival_of"}
        states[state] = (row["id"], filled)
    for state in ("in the trash", "deleted for good"):
        assert (await alice.delete(f"/v1/characters/{states[state][0]}")).status_code == 204
    assert (await alice.delete(f"/v1/trash/{states['deleted for good'][0]}")).status_code == 204
    return states


async def relationships(app: Any, alice: Client) -> Rows:
    mira, joss, lost = [await character(alice, name=name) for name in ("Mira", "Joss", "Lost")]
    rows = {
        "of two": await relationship(alice, mira, joss),
        "from the trash": await relationship(alice, lost, joss),
        "into the trash": await relationship(alice, mira, lost),
    }
    assert (await alice.delete(f"/v1/characters/{lost['id']}")).status_code == 204
    filled = {"version": 1, "description": "Estranged."}
    return {state: (row["id"], filled | {"relationship": row["id"]}) for state, row in rows.items()}


async def templates(app: Any, alice: Client) -> Rows:
    """A template of the platform is one that has lost its owner."""
    states = {}
    for state in ("public", "private", "platform's", "retired of the platform"):
        row = await template(alice, name=state, visibility="private" if state == "private" else "public")
        if "retired" in state:
            assert (await alice.delete(f"/v1/templates/{row['id']}")).status_code == 204
        version = row["version"] + ("retired" in state)
        filled = {"template": row["id"], "version": version, "name": "Bard", "attribute_schema": json.dumps(SCHEMA)}
        states[state] = (row["id"], filled)
    for state, (template_id, _) in states.items():
        if "platform" in state:
            await Template.update({Template.owner: None}).where(Template.id == template_id)
    return states


async def template_versions(app: Any, alice: Client) -> Rows:
    states: Rows = {}
    for owner in ("a member's", "the platform's", "retired, the platform's"):
        row = await template(alice, name=owner, visibility="public")
        path = f"/v1/templates/{row['id']}/versions"
        for number in (2, 3):
            assert (await alice.post(path, json={"attribute_schema": FIGHTER})).status_code == 201
            assert number == 3 or (await alice.put(f"{path}/2/publication")).status_code < 300
        if "retired" in owner:
            assert (await alice.put(f"{path}/1/deprecation")).status_code < 300
        only = await template(alice, name=f"{owner} with one", visibility="public")
        if "retired" in owner:
            assert (await alice.delete(f"/v1/templates/{row['id']}")).status_code == 204
        if "platform" in owner:
            for each in (row, only):
                await Template.update({Template.owner: None}).where(Template.id == each["id"])
        found: Any = await TemplateVersion.select().where(TemplateVersion.template.is_in([row["id"], only["id"]]))
        for version in found:
            filled = {"template": str(version["template"]), "number": version["number"]}
            filled |= {"attribute_schema": json.dumps(SCHEMA)}
            states[f"{owner} {version['number']} of {version['template']}"] = (version["id"], filled)
    return states


ROWS = {
    "users": members,
    "characters": characters,
    "relationships": relationships,
    "templates": templates,
    "template_versions": template_versions,
}


@pytest.mark.parametrize("table", APPLIES)
async def test_a_form_is_offered_in_the_states_in_which_it_is_not_refused(
    app: Any, operator: Client, alice: Client, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def may(*_: Any) -> bool:  # no minute has passed since the sign-up
        return True

    monkeypatch.setattr("service.admin.member_forms.may_mint", may)
    counts = dict.fromkeys(APPLIES[table], 0)
    for state, (row, filled) in (await ROWS[table](app, alice)).items():
        applying = await offered(operator, table, row)
        for form in APPLIES[table]:
            fields = (await operator.get(f"/admin/api/forms/{form}/schema/")).json()["properties"]
            given = {name: value for name, value in filled.items() if name in fields}
            before = await AuditEntry.count()
            preview = await submit(operator, form, **given, confirm=False)
            faults = preview.json()["detail"]
            is_refused = [fault["loc"][-1] for fault in faults] != ["confirm"]
            assert is_refused == (form not in applying), (form, state, faults)
            if is_refused:
                assert (await submit(operator, form, **given)).json()["detail"] == faults
            assert await AuditEntry.count() == before, (form, state)
            counts[form] += not is_refused
    assert min(counts.values()) > 0, "each form applies to a row of the test"


async def test_the_forms_of_all_rows_have_states(operator: Client) -> None:
    script = (await operator.get("/admin/pages.js")).text
    forms = json.loads(script.partition("const forms = ")[2].partition(";")[0])
    assert {table: {each["slug"] for each in of_table} for table, of_table in forms.items()} == {
        table: set(states) for table, states in APPLIES.items()
    }


async def test_a_row_offers_the_forms_of_the_role(app: Any, operator: Client, alice: Client) -> None:
    mira = await character(alice, visibility="public")
    await set_role("olga", "moderator")
    assert await offered(operator, "characters", mira["id"]) == {"hide-a-character"}
    await set_role("olga", "reader")
    assert await offered(operator, "characters", mira["id"]) == set()
    await set_role("olga", "administrator")
    for table, row in (("characters", NOBODY), ("characters", "1"), ("audit_log", NOBODY), ("piccolo_user", "1")):
        assert await offered(operator, table, row) == set()
    async with browser(app) as unknown:
        for client in (unknown, alice):
            assert (await client.get(f"/admin/api/forms/of/characters/{mira['id']}/")).status_code == 401
