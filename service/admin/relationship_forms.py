"""Forms of operators for the relationships of a member's characters. They call what the owner's requests call."""

from typing import Annotated, Any, get_args

from piccolo_admin.endpoints import FormConfig
from pydantic import ConfigDict, Field

from service.admin.character_forms import FilledFrom, RowId, find_character, owner_of, row_id
from service.admin.forms import (
    STALE,
    Confirm,
    LongText,
    OperatorForm,
    Preview,
    Reason,
    Text,
    differences,
    operator_form,
    refused,
)
from service.audit.actions import Action
from service.audit.queries import record
from service.errors import PreconditionFailed
from service.etags import etag
from service.relationships.queries import create_relationship, delete_relationship, update_relationship
from service.relationships.schemas import RelationshipCreate, RelationshipUpdate
from service.relationships.tables import Relationship
from service.relationships.types import CUSTOM, LABELS, TypeName
from service.validation import convert

EDITED = (*LABELS, "description", "source_attitude", "target_attitude")
# The names of the API, where they differ. It reads a relationship from the source's side
_IN_API = {"source_attitude": "attitude", "target_attitude": "returned_attitude"}

TypeChoice = Annotated[str, Field(json_schema_extra={"enum": list(get_args(TypeName))})]
Label = Annotated[Text, Field(description="Only of the type custom.")]
InverseLabel = Annotated[Text, Field(description="Only of the type custom. Empty: the same as the label.")]
Attitude = Annotated[
    Annotated[int, Field(ge=-100, le=100)] | None, Field(description="From −100 (hatred) to 100 (devotion), or empty.")
]


class NewRelationship(OperatorForm):
    model_config = ConfigDict(json_schema_extra={"fill_only_id": True})  # the description is not the character's

    character: Annotated[RowId, Field(description="An id, or an address that has it. It is the type of the target.")]
    target: Annotated[RowId, Field(description="Another character of the same owner.")]
    type: TypeChoice
    label: Label = ""
    inverse_label: InverseLabel = ""
    description: LongText = ""
    attitude: Attitude = None
    returned_attitude: Attitude = None
    reason: Reason
    confirm: Confirm = False


class RelationshipForm(OperatorForm):
    relationship: RowId
    reason: Reason
    confirm: Confirm = False


class RelationshipEdit(OperatorForm):
    model_config = ConfigDict(json_schema_extra={"fill": {"table": "relationships", "key": "relationship"}})

    relationship: FilledFrom
    version: Annotated[int, Field(description="The version that was read.")]
    label: Label = ""
    inverse_label: InverseLabel = ""
    description: LongText = ""
    source_attitude: Attitude = None
    target_attitude: Attitude = None
    reason: Reason
    confirm: Confirm = False


def _new(data: NewRelationship) -> RelationshipCreate:
    given = {name: getattr(data, name) for name in ("type", "description", "attitude", "returned_attitude")}
    labels = {name: getattr(data, name) or None for name in LABELS}
    return convert(given | labels | {"target": str(row_id("target", data.target))}, RelationshipCreate)


def _words(type_name: str) -> str:
    return type_name.replace("_", " ")


async def _to_create(data: NewRelationship) -> Preview:
    row, target = await find_character(data.character), await find_character(data.target, field="target")
    if target["owner"] != row["owner"]:
        raise refused("target", f"{target['name']} is {target['username']}'s, and {row['name']} {row['username']}'s.")
    new = _new(data)
    return Preview(row, f"{row['name']} of {row['username']} will be {new.label or _words(new.type)} {target['name']}.")


async def _create(row: Any, data: NewRelationship) -> str:
    created = await create_relationship(owner_of(row), row["id"], _new(data))
    await record(
        Action.CREATE_RELATIONSHIP, "relationship", created["id"], member=row["owner"], character=str(row["id"])
    )
    return f"The relationship of {row['name']} is created."


async def _find(text: str) -> Any:
    columns = (getattr(Relationship, name) for name in ("id", "version", "type", *EDITED))
    row: Any = (
        await Relationship.select(
            *columns,
            Relationship.source,
            Relationship.target,
            Relationship.source.name.as_alias("source_name"),
            Relationship.target.name.as_alias("target_name"),
            Relationship.source.deleted_at.as_alias("source_deleted_at"),
            Relationship.target.deleted_at.as_alias("target_deleted_at"),
            Relationship.source.owner.as_alias("owner"),
            Relationship.source.owner.username.as_alias("username"),  # type: ignore[union-attr] # a joined table
        )
        .where(Relationship.id == row_id("relationship", text))
        .first()
    )
    if row is None:
        raise refused("relationship", "There is no such relationship.")
    for end in ("source", "target"):
        if row[f"{end}_deleted_at"] is not None:
            raise refused("relationship", f"{row[f'{end}_name']} is in the trash.")
    return row


def _summary(row: Any) -> str:
    type_name = row["label"] or _words(row["type"])
    return f"{row['source_name']} of {row['username']} is {type_name} {row['target_name']}, version {row['version']}."


def _changed(row: Any, data: RelationshipEdit) -> dict[str, Any]:
    """The columns that shall change. An empty inverse label is stored as the label."""
    after = {name: getattr(data, name) for name in EDITED}
    if row["type"] == CUSTOM.name:
        after["inverse_label"] = data.inverse_label or data.label
    return {name: value for name, value in after.items() if value != row[name]}


def _update(changed: dict[str, Any]) -> RelationshipUpdate:
    in_api = {_IN_API.get(name, name): value for name, value in changed.items()}
    return convert({name: None if value == "" else value for name, value in in_api.items()}, RelationshipUpdate)


async def _to_edit(data: RelationshipEdit) -> Preview:
    row = await _find(data.relationship)
    if data.version != row["version"]:
        raise refused("version", f"It has changed: its version is {row['version']}. {STALE}")
    changed = _changed(row, data)
    if not changed:
        raise refused("relationship", "Nothing differs from what is stored.")
    return Preview(row, f"{_summary(row)} Changes: {'; '.join(differences(row, changed).values()).removesuffix('.')}.")


async def _edit(row: Any, data: RelationshipEdit) -> str:
    changed = _changed(row, data)
    try:
        await update_relationship(
            owner_of(row), row["id"], row["source"], _update(changed), etag(row["id"], data.version)
        )
    except PreconditionFailed:
        raise refused("version", f"It has changed meanwhile. {STALE}") from None
    await record(Action.UPDATE_RELATIONSHIP, "relationship", row["id"], member=row["owner"], fields=sorted(changed))
    return f"The relationship of {row['source_name']} and {row['target_name']} is saved."


async def _to_remove(data: RelationshipForm) -> Preview:
    row = await _find(data.relationship)
    return Preview(row, f"{_summary(row)} The relationship will be deleted, for good.")


async def _remove(row: Any, data: RelationshipForm) -> str:
    await delete_relationship(owner_of(row), row["id"], None)
    ends = {"character": str(row["source"]), "target": str(row["target"])}  # nothing else has them any more
    await record(Action.DELETE_RELATIONSHIP, "relationship", row["id"], member=row["owner"], **ends, type=row["type"])
    return f"The relationship of {row['source_name']} and {row['target_name']} is deleted."


_GROUP = "Relationships"
ADD = operator_form(
    "Add a relationship", _GROUP, "Between two characters of one owner.", NewRelationship, _to_create, _create
)
FORMS: list[FormConfig] = [
    operator_form(
        "Edit a relationship",
        _GROUP,
        "Enter the id: the other fields show what is stored. It is read from the source's side.",
        RelationshipEdit,
        _to_edit,
        _edit,
    ),
    operator_form(
        "Remove a relationship", _GROUP, "For good; both characters stay.", RelationshipForm, _to_remove, _remove
    ),
]
