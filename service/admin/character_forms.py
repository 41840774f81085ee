"""Forms of operators for the characters of members. They call what the owner's requests call."""

import re
from typing import Annotated, Any, get_args
from uuid import UUID

import msgspec
from piccolo_admin.endpoints import FormConfig
from pydantic import ConfigDict, Field

from service.admin.forms import (
    STALE,
    Confirm,
    Line,
    LongText,
    OperatorForm,
    Preview,
    Reason,
    Text,
    differences,
    json_object,
    lines,
    operator_form,
    refused,
)
from service.audit.actions import Action
from service.audit.queries import record
from service.callers import Caller
from service.characters.queries import delete_character, update_character
from service.characters.schemas import CharacterUpdate
from service.characters.tables import Character
from service.errors import PreconditionFailed
from service.etags import etag
from service.schemas import Style, Visibility
from service.text.json_values import is_same, patch_between
from service.trash.queries import purge_character, restore_character
from service.validation import convert

ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_AN_ID = "019b2f5e-8d3c-7a61-b0c4-2f9e6d1a7b35"
RowId = Annotated[Line, Field(description="An id, or an address that has it.")]
FilledFrom = Annotated[RowId, Field(description="An id, or an address that has it. Fills the other fields.")]
StyleName = Annotated[str, Field(json_schema_extra={"enum": ["", *get_args(Style)]})]
TagLines = Annotated[LongText, Field(description="One on each line.")]
EDITED = ("name", "description", "prompt", "style", "tags", "visibility", "attributes")


class CharacterForm(OperatorForm):
    character: RowId
    reason: Reason
    confirm: Confirm = False


class CharacterEdit(OperatorForm):
    model_config = ConfigDict(json_schema_extra={"fill": {"table": "characters", "key": "character"}})

    character: FilledFrom
    version: Annotated[int, Field(description="The version that was read.")]
    name: Text
    description: LongText = ""
    prompt: LongText = ""
    style: StyleName = ""
    tags: TagLines = ""
    visibility: Annotated[str, Field(json_schema_extra={"enum": list(get_args(Visibility))})]
    attributes: Annotated[LongText, Field(description="A JSON object, which must satisfy the template.")]
    reason: Reason
    confirm: Confirm = False


def row_id(field: str, text: str) -> UUID:
    """Raises Unprocessable if there is no id in ``text``."""
    if found := ID.search(text):
        return UUID(found[0])
    raise refused(field, f"Must be an id (such as {_AN_ID}), or an address that has it, not a name.")


async def find_character(text: str, *, field: str = "character", in_trash: bool = False) -> Any:
    columns = (getattr(Character, name) for name in EDITED)
    row: Any = (
        await Character.select(
            Character.id, Character.version, Character.deleted_at, Character.owner, *columns,
            Character.owner.username.as_alias("username"),
        )
        .where(Character.id == row_id(field, text), Character.ended.eq(False))
        .first()
    )  # fmt: skip
    if row is None:
        raise refused(field, "There is no such character.")
    if in_trash and row["deleted_at"] is None:
        raise refused(field, f"{row['name']} is not in the trash.")
    if not in_trash and row["deleted_at"] is not None:
        raise refused(field, f"{row['name']} is in the trash.")
    return row


def owner_of(row: Any) -> Caller:
    return Caller(id=row["owner"], username=row["username"])


def _summary(row: Any) -> str:
    return f"{row['name']} of {row['username']} is {row['visibility']}, version {row['version']}."


async def _to_hide(data: CharacterForm) -> Preview:
    row = await find_character(data.character)
    if row["visibility"] == "private":
        raise refused("character", f"{row['name']} is private already.")
    return Preview(row, f"{_summary(row)} It will be private: only its owner sees it, and can change that.")


async def _hide(row: Any, data: CharacterForm) -> str:
    await update_character(owner_of(row), row["id"], CharacterUpdate(visibility="private"), None)
    return f"{row['name']} of {row['username']} is hidden: it is private now."


async def _to_delete(data: CharacterForm) -> Preview:
    row = await find_character(data.character)
    return Preview(row, f"{_summary(row)} It will be in its owner's trash for 30 days, from where they can restore it.")


async def _delete(row: Any, data: CharacterForm) -> str:
    await delete_character(owner_of(row), row["id"], None)
    return f"{row['name']} of {row['username']} is in the trash."


async def _to_restore(data: CharacterForm) -> Preview:
    row = await find_character(data.character, in_trash=True)
    since = f"{row['deleted_at']:%Y-%m-%d %H:%M:%S} UTC"
    return Preview(row, f"{_summary(row)} It is in the trash since {since}, and will be restored.")


async def _restore(row: Any, data: CharacterForm) -> str:
    await restore_character(owner_of(row), row["id"])
    return f"{row['name']} of {row['username']} is restored."


async def _to_purge(data: CharacterForm) -> Preview:
    row = await find_character(data.character, in_trash=True)
    effect = "It will be deleted for good, with its revisions, relationships and card. Nobody can restore it."
    return Preview(row, f"{_summary(row)} {effect}")


async def _purge(row: Any, data: CharacterForm) -> str:
    await purge_character(owner_of(row), row["id"])
    return f"{row['name']} of {row['username']} is deleted for good."


def _after(data: CharacterEdit) -> dict[str, Any]:
    """The columns as they shall be."""
    return {
        "name": data.name,
        "description": data.description,
        "prompt": data.prompt or None,
        "style": data.style or None,
        "tags": lines(data.tags),
        "visibility": data.visibility,
        "attributes": json_object("attributes", data.attributes),
    }


def _before(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in EDITED} | {"attributes": msgspec.json.decode(row["attributes"])}


async def _to_edit(data: CharacterEdit) -> Preview:
    row = await find_character(data.character)
    if data.version != row["version"]:
        raise refused("version", f"{row['name']} has changed: its version is {row['version']}. {STALE}")
    changes = differences(_before(row), _after(data))
    if not changes:
        raise refused("character", "Nothing differs from what is stored.")
    return Preview(row, f"{_summary(row)} Changes: {'; '.join(changes.values()).removesuffix('.')}.")


async def _edit(row: Any, data: CharacterEdit) -> str:
    before, after = _before(row), _after(data)
    changed = {name: value for name, value in after.items() if not is_same(before[name], value)}
    if "attributes" in changed:
        changed["attributes"] = patch_between(before["attributes"], after["attributes"])
    try:
        update = convert(changed, CharacterUpdate)
        await update_character(owner_of(row), row["id"], update, etag(row["id"], data.version))
    except PreconditionFailed:
        raise refused("version", f"It has changed meanwhile. {STALE}") from None
    await record(Action.UPDATE_CHARACTER, "character", row["id"], member=row["owner"], fields=sorted(changed))
    return f"{after['name']} of {row['username']} is saved."


_GROUP = "Characters"
FORMS: list[FormConfig] = [
    operator_form(
        "Edit a character",
        _GROUP,
        "Enter the id: the other fields show what is stored. The owner sees the change as a revision.",
        CharacterEdit,
        _to_edit,
        _edit,
    ),
    operator_form(
        "Hide a character", _GROUP, "Makes it private. The owner can show it again.", CharacterForm, _to_hide, _hide
    ),
    operator_form(
        "Delete a character",
        _GROUP,
        "Moves it to its owner's trash, from where it can be restored for 30 days.",
        CharacterForm,
        _to_delete,
        _delete,
    ),
    operator_form("Restore a character", _GROUP, "Takes it back from the trash.", CharacterForm, _to_restore, _restore),
    operator_form(
        "Delete a character for good",
        _GROUP,
        "One that is in the trash, at once. Nobody can restore it.",
        CharacterForm,
        _to_purge,
        _purge,
    ),
]
