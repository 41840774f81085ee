"""Forms of operators that export an account, import a card and run housekeeping."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.admin import member_forms
from service.admin.roles import MODERATION
from service.characters.tables import Character
from tests.api.admin.test_forms import REASON, done_on, entries, faults, id_of, last_entry, submit
from tests.conftest import character
from tests.support.cards import V2, V3

Client = httpx.AsyncClient

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


def test_these_forms_are_for_administrators() -> None:
    assert not MODERATION & {"export-an-account", "import-a-card", "run-housekeeping"}


# Exports


async def test_an_account_is_exported(operator: Client, alice: Client) -> None:
    mira = await character(alice)
    before = await entries()
    [(field, told)] = await faults(operator, "export-an-account", member="alice", confirm=False)
    assert field == "confirm"
    assert "You will get all their data as a file." in told
    assert await entries() == before
    answer = await submit(operator, "export-an-account", member="alice")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="alice.ndjson"'
    rows = [json.loads(line) for line in answer.text.splitlines()]
    own = [json.loads(line) for line in (await alice.get("/v1/users/me/export")).text.splitlines()]
    assert [row for row in rows if row["kind"] != "audit_entry"] == [row for row in own if row["kind"] != "audit_entry"]
    assert [row["id"] for row in rows if row["kind"] == "character"] == [mira["id"]]
    assert await last_entry() == ("export_user", "user", await id_of(alice), {"reason": REASON})


async def test_an_export_that_is_too_large_is_refused(
    operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_forms, "MAX_EXPORT", 100)
    before = await entries()
    assert [name for name, _ in await faults(operator, "export-an-account", member="alice", confirm=True)] == ["member"]
    assert await entries() == before
    assert (await alice.get("/v1/users/me/export")).status_code == 200  # the first one is no longer running


# Cards


@pytest.mark.parametrize("document", [V2, V3], ids=["V2", "V3"])
async def test_a_card_is_imported(operator: Client, alice: Client, document: dict[str, Any]) -> None:
    given = {"member": "alice", "card": json.dumps(document)}
    pasted = f"pasted JSON, Character Card {'V3' if document is V3 else 'V2'}"
    told, row = await done_on(operator, "import-a-card", **given)
    assert told == "Mira Halloran of alice is imported."
    assert await last_entry() == ("create_character", "character", row, {"card": pasted, "reason": REASON})
    made = (await alice.get(f"/v1/characters/{row}")).json()
    assert (made["name"], made["visibility"]) == ("Mira Halloran", "private")
    card = (await alice.get(f"/v1/characters/{row}/card", params={"format": "json"})).json()
    assert card["data"]["first_mes"] == document["data"]["first_mes"]
    assert row in [change["id"] for change in (await alice.get("/v1/changes")).json()["items"]]

    fault = ("card", f"alice has imported it before, as {row}.")
    assert await faults(operator, "import-a-card", **given, on_duplicate="skip") == [fault]
    assert (await done_on(operator, "import-a-card", **given, on_duplicate="update"))[1] == row
    assert (await last_entry())[:3] == ("update_character", "character", row)
    assert (await done_on(operator, "import-a-card", **given))[1] != row
    assert await Character.count() == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"card": ""}, "card"),
        ({"card": "{"}, "card"),
        ({"card": '{"spec": "chara_card_v2", "data": 7}'}, "card"),
        ({"on_duplicate": "replace"}, "on_duplicate"),
        ({"member": "nobody"}, "member"),
    ],
)
async def test_a_faulty_import_names_its_field(
    operator: Client, alice: Client, changes: dict[str, str], field: str
) -> None:
    for confirm in (False, True):
        given = {"member": "alice", "card": json.dumps(V2)} | changes
        found = await faults(operator, "import-a-card", **given, confirm=confirm)
        assert [name for name, _ in found] == [field]
    assert await Character.count() == 0


async def test_a_fault_in_the_json_of_a_card_names_its_line(operator: Client, alice: Client) -> None:
    cut = json.dumps(V2, indent=1)[:-1]
    [(field, told)] = await faults(operator, "import-a-card", member="alice", card=cut)
    assert (field, told) == ("card", f"Line {cut.count(chr(10)) + 1}, column 1: the text ends too early.")
    for empty in ("", " \n"):
        assert await faults(operator, "import-a-card", member="alice", card=empty) == [("card", "Must not be empty.")]


# Housekeeping


async def test_housekeeping_deletes_what_the_command_deletes(operator: Client, alice: Client) -> None:
    mira = await character(alice)
    old = datetime.now(UTC) - timedelta(days=31)
    await Character.update({Character.deleted_at: old}).where(Character.id == mira["id"])
    answer = await submit(operator, "run-housekeeping", task="purge")
    assert answer.json()["custom_form_success"] == "purge is done: trash: 1 deleted."  # it is about no row
    action, kind, row, detail = await last_entry()
    assert (action, kind, row) == ("run_task", "service", None)
    assert detail == {"task": "purge", "result": "trash: 1 deleted", "reason": REASON}
    assert await Character.count() == 0


async def test_unknown_housekeeping_is_refused(operator: Client) -> None:
    for confirm in (False, True):
        fault = ("task", "Must be one of purge, collect_files.")
        assert await faults(operator, "run-housekeeping", task="restore", confirm=confirm) == [fault]


@pytest.mark.slow
async def test_unused_files_are_collected(operator: Client) -> None:
    answer = await submit(operator, "run-housekeeping", task="collect_files")
    assert answer.json()["custom_form_success"] == "collect_files is done: nothing to delete."
