"""Forms of operators: each tells what it would do, does what the API's requests do, and is in the audit log."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.audit.actions import Action
from service.audit.queries import on_behalf_of_operator, record
from service.audit.tables import AuditEntry
from service.auth.suspensions import close_account, reactivate_user
from service.auth.tables import EmailToken, Token
from service.characters.queries import update_character
from service.errors import NotFound
from service.templates.tables import Template
from service.users.tables import User
from tests.conftest import FIGHTER, PASSWORD, account_id, character, template
from tests.support.mail import Mailbox, configure, mail_server

Client = httpx.AsyncClient
NOBODY = "00000000-0000-0000-0000-000000000001"
REASON = "As report 7 says."
SCHEMA = {"type": "object", "properties": {"strength": {"type": "integer"}}, "additionalProperties": False}

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def submit(operator: Client, form: str, **fields: Any) -> httpx.Response:
    return await operator.post(f"/admin/api/forms/{form}/", json={"reason": REASON, "confirm": True} | fields)


async def done(operator: Client, form: str, **fields: Any) -> str:
    told, _ = await done_on(operator, form, **fields)
    return told


async def done_on(operator: Client, form: str, **fields: Any) -> tuple[str, str]:
    """The form tells first what it would do, and changes nothing; then it does it. Returns what it did, and the id of
    the row that it did it to: the answer ends with the row's page."""
    before = await entries()
    preview = await submit(operator, form, **fields, confirm=False)
    assert preview.status_code == 422, preview.text
    assert [fault["loc"] for fault in preview.json()["detail"]] == [["body", "confirm"]], preview.text
    assert await entries() == before
    answer = await submit(operator, form, **fields)
    assert answer.status_code == 200, answer.text
    told, _, page = str(answer.json()["custom_form_success"]).rpartition(" Page: #")
    assert told.endswith("."), "which the page follows"
    assert (await operator.get(f"/admin/api/tables{page}")).status_code == 200, page
    return told, page.split("/")[2]


async def faults(operator: Client, form: str, **fields: Any) -> list[tuple[str, str]]:
    """The same for a preview and for the change, unless ``confirm`` says which."""
    found = []
    for confirm in (fields.pop("confirm"),) if "confirm" in fields else (False, True):
        answer = await submit(operator, form, **fields, confirm=confirm)
        assert answer.status_code == 422, answer.text
        found.append([(fault["loc"][-1], fault["msg"]) for fault in answer.json()["detail"]])
    assert found[0] == found[-1]
    return found[-1]


async def entries() -> list[Any]:
    found: Any = await AuditEntry.select(
        AuditEntry.action, AuditEntry.kind, AuditEntry.row, AuditEntry.member, AuditEntry.operator, AuditEntry.detail
    ).order_by(AuditEntry.created_at, AuditEntry.id)
    return [tuple(entry.values()) for entry in found]


async def last_entry() -> tuple[str, str, str, dict[str, Any]]:
    """Action, kind, row and detail. It names the operator and no member."""
    action, kind, row, member, operator, detail = (await entries())[-1]
    assert (member, operator) == (None, "olga")
    return action, kind, row, json.loads(detail)


async def id_of(member: Client) -> str:
    return str((await member.get("/v1/users/me")).json()["id"])


async def versions_in_feed(member: Client, row: str) -> list[int]:
    changes = (await member.get("/v1/changes")).json()["items"]
    return [change["character"]["version"] for change in changes if change["id"] == row]


# Members


@pytest.mark.parametrize("name", ["alice", " Alice ", "alice@example.org", "ALICE@example.org", "id"])
async def test_a_suspended_user_has_no_access_until_reactivated(
    operator: Client, alice: Client, stranger: Client, name: str
) -> None:
    alice_id = await id_of(alice)
    member = alice_id if name == "id" else name
    credentials = {"login": "alice", "password": PASSWORD}
    assert await done(operator, "suspend-a-member", member=member) == "alice is suspended."
    assert await last_entry() == ("suspend_user", "user", alice_id, {"reason": REASON})
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await stranger.get("/v1/users/alice")).status_code == 404
    assert (await stranger.post("/v1/sessions", json=credentials)).status_code == 401
    assert await faults(operator, "suspend-a-member", member=member) == [("member", "alice is suspended already.")]
    assert await done(operator, "reactivate-a-member", member=member) == "alice is active."
    assert await last_entry() == ("reactivate_user", "user", alice_id, {"reason": REASON})
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await stranger.post("/v1/sessions", json=credentials)).status_code == 201
    assert await faults(operator, "reactivate-a-member", member=member) == [("member", "alice is active already.")]


async def test_a_form_tells_who_is_meant(operator: Client, alice: Client) -> None:
    await character(alice)
    [(field, told)] = await faults(operator, "suspend-a-member", member="alice", confirm=False)
    assert field == "confirm"
    assert told.startswith("alice (")
    assert "alice@example.org) is active, a member since 20" in told
    assert "Characters: 1." in told


MEMBER_FORMS = [
    "suspend-a-member",
    "reactivate-a-member",
    "end-sessions-and-keys",
    "resend-verification",
    "delete-an-account",
]


@pytest.mark.parametrize("form", MEMBER_FORMS)
async def test_only_members_are_found(operator: Client, alice: Client, form: str) -> None:
    for member in ("nobody", "", "x" * 64, NOBODY):
        assert await faults(operator, form, member=member) == [("member", "There is no such member.")]
    assert await faults(operator, form, member="al\0ice") == [("member", "Must not contain the NUL character.")]
    assert (await alice.request("DELETE", "/v1/users/me", json={"password": PASSWORD})).status_code == 204
    [(field, fault)] = await faults(operator, form, member="alice")
    assert (field, fault) == ("member", "alice has deleted the account, or an operator has.")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("reason", "", "Must have at least 3 characters."),
        ("reason", " x ", "Must have at least 3 characters."),
        ("reason", "x" * 501, "Must have at most 500 characters."),
        ("reason", "a\0b.", "Must not contain the NUL character."),
        ("reason", 7, "Must be a text."),
        ("confirm", "maybe", "Must be true or false."),
        ("confirm", [], "Must be true or false."),
        ("more", 1, "Is no field of this form."),
    ],
)
async def test_a_fault_names_its_field(operator: Client, alice: Client, field: str, value: Any, words: str) -> None:
    assert await faults(operator, "suspend-a-member", **{"member": "alice", field: value}) == [(field, words)]
    assert (await alice.get("/v1/users/me")).status_code == 200


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("two", "Must be a whole number."),
        ("", "Must be a whole number."),
        (1.5, "Must be a whole number."),
        (None, "Must be a whole number."),
        (0, "Must be at least 1."),
        (2**31, "Must be at most 2147483647."),
        ("9" * 5000, "Is too large."),
    ],
)
async def test_a_faulty_number_is_told_in_plain_words(operator: Client, number: Any, words: str) -> None:
    assert await faults(operator, "publish-a-version", template=NOBODY, number=number) == [("number", words)]


async def test_a_missing_field_is_told_in_plain_words(operator: Client) -> None:
    found = await faults(operator, "publish-a-version")
    assert found == [("template", "Must not be missing."), ("number", "Must not be missing.")]


async def test_sessions_and_keys_of_a_member_end(operator: Client, alice: Client, stranger: Client) -> None:
    """One that has ended by itself is not counted, also if it was not used for too long."""
    alice_id = await id_of(alice)
    for name in ("one", "two"):
        key = {"name": name, "scopes": ["characters:read"], "current_password": PASSWORD}
        assert (await alice.post("/v1/api-keys", json=key)).status_code == 201
    signed_in = await stranger.post("/v1/sessions", json={"login": "alice", "password": PASSWORD})
    idle, long_ago = Token.id == UUID(signed_in.json()["id"]), datetime.now(UTC) - timedelta(days=365)
    await Token.update({Token.last_used_at: long_ago}).where(idle)
    [(_, told)] = await faults(operator, "end-sessions-and-keys", member="alice", confirm=False)
    assert " All their sessions and API keys will end: 1 session and 2 API keys. " in told
    assert await done(operator, "end-sessions-and-keys", member="alice")
    assert await last_entry() == ("sign_out", "user", alice_id, {"reason": REASON})
    assert await Token.count() == 0
    assert (await alice.get("/v1/users/me")).status_code == 401


@pytest.fixture
async def mailbox(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch, links_url="https://app.example.org/")):
        yield mailbox


async def test_a_verification_is_sent_again(mailbox: Mailbox, operator: Client, alice: Client) -> None:
    alice_id = await id_of(alice)
    await mailbox.arrived("confirm")
    await EmailToken.delete(force=True)  # otherwise the second message would come a minute later
    assert await done(operator, "resend-verification", member="alice")
    assert await last_entry() == ("send_verification", "user", alice_id, {"reason": REASON})
    await mailbox.arrived("confirm", 2)
    wait = "An e-mail went to the address within the last minute. Wait a minute."
    assert await faults(operator, "resend-verification", member="alice") == [("member", wait)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"email_verified_at": datetime(2026, 1, 1, tzinfo=UTC)}, "The address of alice is verified already."),
        ({"email": None, "email_key": None}, "alice has no e-mail address."),
        ({"status": "suspended"}, "alice is suspended."),
    ],
)
async def test_not_every_address_is_verified_again(
    operator: Client, alice: Client, change: dict[str, Any], fault: str
) -> None:
    await User.update(change).where(User.username == "alice")
    assert await faults(operator, "resend-verification", member="alice") == [("member", fault)]


async def test_a_deleted_account_is_as_if_its_member_had_deleted_it(operator: Client, alice: Client) -> None:
    alice_id = await id_of(alice)
    assert await done(operator, "delete-an-account", member="alice")
    assert await last_entry() == ("delete_user", "user", alice_id, {"reason": REASON})
    account: Any = await User.select(User.status, User.deleted_at).first()
    assert account["status"] == "suspended"
    assert account["deleted_at"] is not None
    assert await Token.count() == 0
    assert (await alice.get("/v1/users/me")).status_code == 401


async def test_a_deleted_account_is_not_reactivated(alice: Client) -> None:
    """Not even when its member deletes it after the form has looked it up."""
    assert (await alice.request("DELETE", "/v1/users/me", json={"password": PASSWORD})).status_code == 204
    alice_id = await account_id("alice")
    for act in (reactivate_user, close_account):
        with pytest.raises(NotFound):
            await act(alice_id)


# Characters


def edit(row: Any, **changes: Any) -> dict[str, Any]:
    """The form as it is filled in from a row."""
    filled = {
        "character": row["id"],
        "version": row["version"],
        "name": row["name"],
        "description": row["description"],
        "prompt": row["prompt"] or "",
        "style": row["style"] or "",
        "tags": "\n".join(row["tags"]),
        "visibility": row["visibility"],
        "attributes": json.dumps(row["attributes"]),
    }
    return filled | changes


async def test_a_character_is_hidden(operator: Client, alice: Client, stranger: Client) -> None:
    mira = await character(alice, visibility="public")
    path = f"/v1/characters/{mira['id']}"
    done_so = await done(operator, "hide-a-character", character=f"https://example.org{path}")
    assert done_so == "Mira of alice is hidden: it is private now."
    detail = {"before": "public", "after": "private", "reason": REASON}
    assert await last_entry() == ("change_visibility", "character", mira["id"], detail)
    assert (await stranger.get(path)).status_code == 404
    assert (await alice.get(path)).json()["version"] == 2
    assert len((await alice.get(f"{path}/revisions")).json()["items"]) == 2
    assert await versions_in_feed(alice, mira["id"]) == [2]
    fault = ("character", "Mira is private already.")
    assert await faults(operator, "hide-a-character", character=mira["id"]) == [fault]


async def test_a_character_is_deleted_and_restored(operator: Client, alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    fault = ("character", "Mira is not in the trash.")
    assert await faults(operator, "restore-a-character", character=mira["id"]) == [fault]
    assert await done(operator, "delete-a-character", character=mira["id"]) == "Mira of alice is in the trash."
    assert await last_entry() == ("trash_character", "character", mira["id"], {"reason": REASON})
    assert (await alice.get(path)).status_code == 404
    fault = ("character", "Mira is in the trash.")
    for form in ("delete-a-character", "hide-a-character"):
        assert await faults(operator, form, character=mira["id"]) == [fault]
    assert await faults(operator, "edit-a-character", **edit(mira)) == [fault]
    assert await done(operator, "restore-a-character", character=mira["id"]) == "Mira of alice is restored."
    assert await last_entry() == ("restore_character", "character", mira["id"], {"reason": REASON})
    assert (await alice.get(path)).json()["version"] == 3
    assert await versions_in_feed(alice, mira["id"]) == [3]


@pytest.mark.parametrize("form", ["hide-a-character", "delete-a-character", "restore-a-character"])
async def test_only_characters_are_found(operator: Client, form: str) -> None:
    assert await faults(operator, form, character=NOBODY) == [("character", "There is no such character.")]
    [(field, told)] = await faults(operator, form, character="Mira")
    assert field == "character"
    assert re.fullmatch(r"Must be an id \(such as [0-9a-f-]{36}\), or an address that has it, not a name\.", told)


async def test_a_character_is_edited_as_its_owner_would(operator: Client, alice: Client) -> None:
    rules = await template(alice)
    attributes = {"strength": 3, "race": "elf"}
    mira = await character(alice, template=rules["id"], attributes=attributes, tags=["a"], description="Rude.")
    changes = {"name": "Mirabel", "description": "", "tags": " b \n\nc", "attributes": '{"strength": 4, "race": "elf"}'}
    filled = edit(mira, **changes)
    [(_, told)] = await faults(operator, "edit-a-character", **filled, confirm=False)
    assert 'name: Mira → Mirabel; description: Rude. → empty; tags: ["a"] → ["b","c"]; attributes: ' in told
    assert await done(operator, "edit-a-character", **filled) == "Mirabel of alice is saved."
    fields = ["attributes", "description", "name", "tags"]
    assert await last_entry() == ("update_character", "character", mira["id"], {"fields": fields, "reason": REASON})
    after = (await alice.get(f"/v1/characters/{mira['id']}")).json()
    assert (after["name"], after["description"], after["tags"], after["version"]) == ("Mirabel", "", ["b", "c"], 2)
    assert after["attributes"] == mira["attributes"] | {"strength": 4}
    assert len((await alice.get(f"/v1/characters/{mira['id']}/revisions")).json()["items"]) == 2
    assert await versions_in_feed(alice, mira["id"]) == [2]


async def test_attributes_are_removed_within_each_other(operator: Client, alice: Client) -> None:
    mira = await character(alice, attributes={"a": {"b": 1, "c": True}, "d": 1})
    assert await done(operator, "edit-a-character", **edit(mira, attributes='{"a": {"c": 1}}'))
    after = (await alice.get(f"/v1/characters/{mira['id']}")).json()["attributes"]
    assert json.dumps(after) == '{"a": {"c": 1}}'


async def test_a_faulty_edit_names_its_field(operator: Client, alice: Client) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"], attributes={"strength": 3, "race": "elf"})
    for confirm, changes, field in [
        (False, {"name": ""}, "name"),
        (False, {"name": "a\0"}, "name"),
        (False, {"style": "baroque"}, "style"),
        (False, {"visibility": "secret"}, "visibility"),
        (False, {"tags": "x" * 1000}, "tags/0"),
        (False, {"attributes": "[]"}, "attributes"),
        (False, {"attributes": "{"}, "attributes"),
        (True, {"attributes": '{"strength": 99, "race": "elf"}'}, "attributes/strength"),
        (False, {"version": 2}, "version"),
        (False, {}, "character"),
    ]:
        filled = edit(mira, **changes) | {"confirm": confirm}
        assert [name for name, _ in await faults(operator, "edit-a-character", **filled)] == [field], changes
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json() == mira


async def test_a_change_in_between_is_not_overwritten(
    operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    mira = await character(alice)

    async def update_later(*given: Any) -> Any:
        change = alice.patch(f"/v1/characters/{mira['id']}", json={"description": "Mine."})
        assert (await asyncio.create_task(change, context=Context())).status_code == 200  # outside of the transaction
        return await update_character(*given)

    monkeypatch.setattr("service.admin.character_forms.update_character", update_later)
    fault = ("version", "It has changed meanwhile. Open its page and the form again.")
    assert await faults(operator, "edit-a-character", **edit(mira, description="Theirs."), confirm=True) == [fault]
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json()["description"] == "Mine."


# Templates


async def create_official(operator: Client) -> str:
    """The id of a new template of the platform."""
    given = {"name": "Knight", "attribute_schema": json.dumps(FIGHTER)}
    told, row = await done_on(operator, "create-a-template", **given)
    assert told == "Knight is created, and its version 1 is published."
    return row


@pytest.fixture
async def official(operator: Client) -> str:
    return await create_official(operator)


async def test_an_official_template_is_created(operator: Client, stranger: Client) -> None:
    official = await create_official(operator)  # here, as a fixture that fails is no failed test
    assert await last_entry() == ("create_template", "template", official, {"reason": REASON})
    made = (await stranger.get(f"/v1/templates/{official}")).json()
    assert (made["name"], made["owner"], made["visibility"], made["newest_version"]) == ("Knight", None, "public", 1)
    assert made["attribute_schema"] == FIGHTER
    listed = (await stranger.get("/v1/templates?owner=platform")).json()["items"]
    assert [each["id"] for each in listed] == [official]


async def test_a_form_shows_the_first_changes_of_a_version(operator: Client, official: str) -> None:
    many = {"type": "object", "properties": {f"p{number}": {} for number in range(60)}}
    given = {"template": official, "attribute_schema": json.dumps(many)}
    [(_, told)] = await faults(operator, "new-template-version", **given, confirm=False)
    assert (told.count("/attributes"), "; and more." in told) == (50, True)


async def test_a_new_version_is_a_draft_until_it_is_published(
    operator: Client, official: str, alice: Client, stranger: Client
) -> None:
    path = f"/v1/templates/{official}/versions"
    schema = json.dumps(SCHEMA)
    told, draft = await done_on(operator, "new-template-version", template=official, attribute_schema=schema)
    assert told.startswith("Version 2 of Knight is a draft.")
    row = (await operator.get(f"/admin/api/tables/template_versions/{draft}/")).json()
    assert (row["template"], row["number"], row["published_at"]) == (official, 2, None)
    of_version = {"number": 2, "version": draft, "reason": REASON}
    assert await last_entry() == ("create_template_version", "template", official, of_version)
    for member in (alice, stranger):  # nobody is the owner of an official template
        assert (await member.get(f"{path}/2")).status_code == 404
        assert [each["number"] for each in (await member.get(path)).json()["items"]] == [1]
    version = {"template": official, "number": 2}
    [(_, told)] = await faults(operator, "publish-a-version", **version, confirm=False)
    assert "/attributes/strength optional, widened" in told
    assert "Version 2 will be published, for good. The newest version will be 2." in told
    published = ("Version 2 of Knight is published.", draft)
    assert await done_on(operator, "publish-a-version", **version) == published
    assert await last_entry() == ("publish_template_version", "template", official, of_version)
    assert (await stranger.get(f"{path}/2")).json()["attribute_schema"] == SCHEMA
    assert (await stranger.get(f"/v1/templates/{official}")).json()["newest_version"] == 2
    fault = ("number", "Version 2 is published already.")
    assert await faults(operator, "publish-a-version", **version) == [fault]
    [(_, told)] = await faults(operator, "deprecate-a-version", **version, confirm=False)
    assert "only if they name it. This is for good." in told
    deprecated = ("Version 2 of Knight is deprecated.", draft)
    assert await done_on(operator, "deprecate-a-version", **version) == deprecated
    assert await last_entry() == ("deprecate_template_version", "template", official, of_version)
    assert (await stranger.get(f"/v1/templates/{official}")).json()["newest_version"] == 1
    only = ("number", "Is the last one for new characters.")
    assert await faults(operator, "deprecate-a-version", template=official, number=1) == [only]
    missing = ("number", "Knight has no version 3.")
    assert await faults(operator, "deprecate-a-version", template=official, number=3) == [missing]


async def test_an_official_template_is_edited_and_retired(operator: Client, official: str, alice: Client) -> None:
    path = f"/v1/templates/{official}"
    before = (await alice.get(path)).json()
    filled = {"template": official, "version": before["version"], "name": "Paladin", "tags": "a\nb", "style": "anime"}
    assert await done(operator, "edit-a-template", **filled) == "Paladin is saved."
    assert await last_entry() == (
        "update_template", "template", official, {"fields": ["name", "style", "tags"], "reason": REASON},
    )  # fmt: skip
    after = (await alice.get(path)).json()
    assert (after["name"], after["tags"], after["style"]) == ("Paladin", ["a", "b"], "anime")
    assert after["version"] == before["version"] + 1
    assert [name for name, _ in await faults(operator, "edit-a-template", **filled)] == ["version"]
    filled["version"] += 1
    assert [name for name, _ in await faults(operator, "edit-a-template", **filled)] == ["template"]
    assert await done(operator, "retire-a-template", template=official) == "Paladin is retired."
    assert await last_entry() == ("retire_template", "template", official, {"reason": REASON})
    answer = await alice.post("/v1/characters", json={"name": "Una", "template": official})
    assert answer.status_code == 409
    fault = ("template", "Paladin is retired already.")
    assert await faults(operator, "retire-a-template", template=official) == [fault]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"visibility": "private"}, "visibility"),
        ({"style": "baroque"}, "style"),
        ({"attribute_schema": "{"}, "attribute_schema"),
        ({"attribute_schema": '{"type": "string"}'}, "attribute_schema/type"),
        ({"prompt": "{unknown}"}, "prompt"),
    ],
)
async def test_a_faulty_template_names_its_field(operator: Client, changes: dict[str, str], field: str) -> None:
    given = {"name": "Knight", "attribute_schema": json.dumps(SCHEMA)} | changes
    for confirm in (False, True):
        found = await faults(operator, "create-a-template", **given, confirm=confirm)
        assert [name for name, _ in found] == [field]
    assert await Template.count() == 0


@pytest.mark.parametrize(
    ("text", "field", "fault"),
    [
        ('{\n "type": "object",\n "properties" {}\n}', "attribute_schema", "Line 3, column 15: expected ':'."),
        ("[]", "attribute_schema", "Is not a JSON object: Expected `object`, got `array`."),
        (
            '{\n"type": "object",\n"properties": {\n"a/b": {"type": "string"},\n"c": {"type":\n"number", "x": 1}\n}\n}',
            "attribute_schema/properties/c/x",
            "Line 6: ",
        ),
        (
            '{"type": "object", "properties": {\n"a": ' + '{"items": ' * 900 + "1" + "}" * 900 + "}}",
            "attribute_schema",
            "Line 2",
        ),
    ],
    ids=["syntax", "list", "keyword", "depth"],
)
async def test_a_fault_in_json_names_line_and_path(
    operator: Client, official: str, text: str, field: str, fault: str
) -> None:
    for form, given in [
        ("create-a-template", {"name": "Knight"}),
        ("new-template-version", {"template": official}),
    ]:
        for confirm in (False, True):
            [(name, found)] = await faults(operator, form, **given, attribute_schema=text, confirm=confirm)
            assert name.startswith(field)
            assert found.startswith(fault)
    assert await Template.count() == 1


async def test_a_faulty_attribute_names_its_line(operator: Client, alice: Client) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"], attributes={"strength": 3, "race": "elf"})
    filled = edit(mira, attributes='{\n "race": "elf",\n "strength": 99\n}')
    [(field, fault)] = await faults(operator, "edit-a-character", **filled)
    assert (field, fault[:8]) == ("attributes/strength", "Line 3: ")


async def test_forms_of_official_templates_refuse_those_of_members(operator: Client, alice: Client) -> None:
    rules = await template(alice)
    schema = json.dumps(SCHEMA)
    for form, more in [
        ("edit-a-template", {"version": 1, "name": "Mine"}),
        ("retire-a-template", {}),
        ("new-template-version", {"attribute_schema": schema}),
        ("publish-a-version", {"number": 1}),
        ("deprecate-a-version", {"number": 1}),
    ]:
        fault = ("template", "Fighter is alice's: only the platform's own are changed here.")
        assert await faults(operator, form, template=rules["id"], **more) == [fault]
        missing = ("template", "There is no such template.")
        assert await faults(operator, form, template=NOBODY, **more) == [missing]


async def test_a_template_of_a_member_is_hidden(operator: Client, alice: Client, official: str) -> None:
    rules = await template(alice, visibility="public")
    done_so = await done(operator, "hide-a-template", template=rules["id"])
    assert done_so == "Fighter of alice is hidden: it is private now."
    detail = {"before": "public", "after": "private", "reason": REASON}
    assert await last_entry() == ("change_visibility", "template", rules["id"], detail)
    fault = ("template", "Knight is the platform's: edit or retire it.")
    assert await faults(operator, "hide-a-template", template=official) == [fault]


async def test_nobody_changes_an_official_template_through_the_api(
    alice: Client, stranger: Client, official: str
) -> None:
    path = f"/v1/templates/{official}"
    assert (await alice.patch(path, json={"name": "Mine"})).status_code == 403
    assert (await alice.delete(path)).status_code == 403
    assert (await stranger.patch(path, json={"name": "Mine"})).status_code == 401


async def test_what_a_member_does_is_not_named_after_an_operator(alice: Client) -> None:
    """The name of the operator lasts as long as the form."""
    alice_id = UUID(await id_of(alice))
    with on_behalf_of_operator("olga", REASON):
        await record(Action.CHANGE_EMAIL, "user", alice_id, member=alice_id)
    assert await last_entry() == ("change_email", "user", str(alice_id), {"reason": REASON})
    await record(Action.CHANGE_EMAIL, "user", alice_id, member=alice_id)
    assert (await entries())[-1] == ("change_email", "user", str(alice_id), alice_id, None, "{}")
