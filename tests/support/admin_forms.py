"""The forms of the admin site: what is entered in each, and what the service then has."""

import json
from typing import Any, NamedTuple

from tests.support.cards import V2

SCHEMA = {"type": "object", "properties": {"strength": {"type": "integer"}}}
_WIDER = {"type": "object", "properties": {"strength": {"type": "integer"}, "faith": {"type": "string"}}}


class Case(NamedTuple):
    """A form, the row that it is opened from, what is entered, and what is expected. ``{names}`` stand for ids."""

    form: str
    about: str  # table/{name of the row}, or empty
    fields: dict[str, str]
    told: str  # how the answer begins
    entry: tuple[str, str, str]  # action, kind and row
    row: str = ""  # table/{name of the row} that changes
    expected: dict[str, Any] = {}  # noqa: RUF012 (never changed) # of that row; a type stands for its values
    feed: str = ""  # the kind of change that the owner sees
    filled: str = ""  # a field that the page fills from the row
    created: str = ""  # the name of the row whose id ends the answer


_MEMBER = {"member": "{member}"}
_UNA, _VICTIM, _OFFICIAL = "characters/{una}", "users/{victim_id}", "templates/{official}"
CASES = [
    Case(
        "edit-a-character", _UNA, {"name": "Unna", "description": "Kind.", "style": "anime"}, "Unna of ",
        ("update_character", "character", "{una}"), _UNA, {"name": "Unna", "style": "anime", "version": 2},
        "character", "name",
    ),
    Case(
        "add-a-relationship", _UNA, {"target": "{joss}", "type": "rival_of", "attitude": "7"}, "The relationship of ",
        ("create_relationship", "relationship", "{rivalry}"), "relationships/{rivalry}",
        {"type": "rival_of", "description": ""}, "relationship",
        "character", "rivalry",
    ),
    Case(
        "edit-a-relationship", "relationships/{family}", {"description": "Estranged."}, "The relationship of ",
        ("update_relationship", "relationship", "{family}"), "relationships/{family}",
        {"description": "Estranged.", "version": 3}, "relationship", "version",
    ),
    Case(
        "remove-a-relationship", "relationships/{family}", {}, "The relationship of ",
        ("delete_relationship", "relationship", "{family}"), "relationships/{family}", {}, "relationship",
        "relationship",
    ),
    Case(
        "hide-a-character", _UNA, {}, "Un", ("change_visibility", "character", "{una}"), _UNA,
        {"visibility": "private"}, "character", "character",
    ),
    Case(
        "delete-a-character", "characters/{joss}", {}, "Joss of ", ("trash_character", "character", "{joss}"),
        "characters/{joss}", {"deleted_at": str}, "character", "character",
    ),
    Case(
        "restore-a-character", "characters/{lost}", {}, "Lost of ", ("restore_character", "character", "{lost}"),
        "characters/{lost}", {"deleted_at": type(None)}, "character", "character",
    ),
    Case(
        "delete-a-character-for-good", "characters/{gone}", {}, "Gone of ", ("purge_character", "character", "{gone}"),
        "characters/{gone}", {"ended": True, "name": ""}, "character", "character",
    ),
    Case(
        "import-a-card", "", _MEMBER | {"card": json.dumps(V2)}, "Mira Halloran of ",
        ("create_character", "character", "{mira}"), "characters/{mira}",
        {"name": "Mira Halloran", "visibility": "private"}, "character", created="mira",
    ),
    Case(
        "create-a-template", "", {"name": "Paladin", "attribute_schema": json.dumps(SCHEMA)}, "Paladin is created",
        ("create_template", "template", "{official}"), _OFFICIAL, {"name": "Paladin", "owner": type(None)},
        created="official",
    ),
    Case(
        "edit-a-template", _OFFICIAL, {"tags": "holy"}, "Paladin is saved.",
        ("update_template", "template", "{official}"), _OFFICIAL, {"tags": ["holy"]}, filled="name",
    ),
    Case(
        "new-template-version", _OFFICIAL, {"attribute_schema": json.dumps(_WIDER)}, "Version 2 of Paladin is a draft.",
        ("create_template_version", "template", "{official}"), filled="attribute_schema",
    ),
    Case(
        "publish-a-version", "", {"template": "{official}", "number": "2"}, "Version 2 of Paladin is published.",
        ("publish_template_version", "template", "{official}"), _OFFICIAL, {"newest_version": 2},
    ),
    Case(
        "deprecate-a-version", "", {"template": "{official}", "number": "2"}, "Version 2 of Paladin is deprec",
        ("deprecate_template_version", "template", "{official}"), _OFFICIAL, {"newest_version": 1},
    ),
    Case(
        "retire-a-template", _OFFICIAL, {}, "Paladin is retired.",
        ("retire_template", "template", "{official}"), _OFFICIAL, {"retired_at": str}, filled="template",
    ),
    Case(
        "hide-a-template", "templates/{rules}", {}, "Rules of ", ("change_visibility", "template", "{rules}"),
        "templates/{rules}", {"visibility": "private"}, "template", "template",
    ),
    Case("resend-verification", "", _MEMBER, "A verification e-mail to ", ("send_verification", "user", "{member_id}")),
    Case(
        "end-sessions-and-keys", _VICTIM, {}, "The sessions and API keys of ", ("sign_out", "user", "{victim_id}"),
        filled="member",
    ),
    Case(
        "suspend-a-member", _VICTIM, {}, "victim_", ("suspend_user", "user", "{victim_id}"), _VICTIM,
        {"status": "suspended"}, filled="member",
    ),
    Case(
        "reactivate-a-member", _VICTIM, {}, "victim_", ("reactivate_user", "user", "{victim_id}"), _VICTIM,
        {"status": "active"}, filled="member",
    ),
    Case(
        "delete-an-account", _VICTIM, {}, "The account of victim_", ("delete_user", "user", "{victim_id}"), _VICTIM,
        {"status": "suspended", "deleted_at": str}, filled="member",
    ),
    Case("export-an-account", "", _MEMBER, "Downloaded file", ("export_user", "user", "{member_id}")),
    Case("run-housekeeping", "", {"task": "purge"}, "purge is done: ", ("run_task", "service", "")),
    Case("run-housekeeping", "", {"task": "collect_files"}, "collect_files is done: ", ("run_task", "service", "")),
]  # fmt: skip
