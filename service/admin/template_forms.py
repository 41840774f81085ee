"""Forms of operators for the platform's own templates, which have no owner, and one that hides a member's template.

They call what an owner's requests call, on behalf of the platform.
"""

from typing import Annotated, Any

from piccolo_admin.endpoints import FormConfig
from pydantic import ConfigDict, Field

from service.admin.character_forms import FilledFrom, RowId, StyleName, TagLines, row_id
from service.admin.forms import (
    STALE,
    Confirm,
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
from service.callers import PLATFORM, Caller
from service.errors import PreconditionFailed
from service.etags import etag
from service.templates.queries import check_version, create_template, delete_template, update_template
from service.templates.schemas import TemplateCreate, TemplateUpdate
from service.templates.tables import Template
from service.validation import convert

SHOWN = ["public", "unlisted"]  # nobody would see a private template of the platform
EDITED = ("name", "description", "style", "tags", "visibility")
Visible = Annotated[str, Field(json_schema_extra={"enum": SHOWN})]
SchemaText = Annotated[LongText, Field(description="A JSON Schema, as in the API.")]


class TemplateForm(OperatorForm):
    template: RowId
    reason: Reason
    confirm: Confirm = False


class NewTemplate(OperatorForm):
    name: Text
    description: LongText = ""
    style: StyleName = ""
    tags: TagLines = ""
    visibility: Visible = "public"
    attribute_schema: SchemaText
    prompt: LongText = ""
    reason: Reason
    confirm: Confirm = False


class TemplateEdit(OperatorForm):
    model_config = ConfigDict(json_schema_extra={"fill": {"table": "templates", "key": "template"}})

    template: FilledFrom
    version: Annotated[int, Field(description="The version of the row that was read.")]
    name: Text
    description: LongText = ""
    style: StyleName = ""
    tags: TagLines = ""
    visibility: Visible = "public"
    reason: Reason
    confirm: Confirm = False


async def _find(text: str) -> Any:
    row: Any = (
        await Template.select(
            Template.id, Template.owner, Template.version, Template.newest_version, Template.retired_at,
            Template.owner.username.as_alias("username"), *(getattr(Template, name) for name in EDITED),
        )
        .where(Template.id == row_id("template", text))
        .first()
    )  # fmt: skip
    if row is None:
        raise refused("template", "There is no such template.")
    return row


async def find_own(text: str) -> Any:
    row = await _find(text)
    if row["owner"] is not None:
        raise refused("template", f"{row['name']} is {row['username']}'s: only the platform's own are changed here.")
    return row


def summary_of(row: Any) -> str:
    retired = ", retired" if row["retired_at"] else ""
    return f"{row['name']} is {row['visibility']}{retired}; its newest version is {row['newest_version']}."


def _check_visibility(visibility: str) -> None:
    if visibility not in SHOWN:
        raise refused("visibility", "Must be public or unlisted.")


def _given(data: NewTemplate | TemplateEdit) -> dict[str, Any]:
    _check_visibility(data.visibility)
    return {
        "name": data.name,
        "description": data.description,
        "style": data.style or None,
        "tags": lines(data.tags),
        "visibility": data.visibility,
    }


def _new(data: NewTemplate) -> TemplateCreate:
    schema = json_object("attribute_schema", data.attribute_schema)
    created = convert(_given(data) | {"prompt": data.prompt, "attribute_schema": schema}, TemplateCreate)
    check_version(created.attribute_schema, created.prompt)
    return created


def _attributes(schema: dict[str, Any]) -> str:
    return ", ".join(schema.get("properties", {})) or "none"


async def _to_create(data: NewTemplate) -> Preview:
    new = _new(data)
    return Preview(
        None, f"{new.name} will be {new.visibility}, with the attributes: {_attributes(new.attribute_schema)}."
    )


async def _create(_: Any, data: NewTemplate) -> str:
    created = await create_template(PLATFORM, _new(data))
    await record(Action.CREATE_TEMPLATE, "template", created["id"])
    return f"{data.name} is created, and its version 1 is published."


async def _to_edit(data: TemplateEdit) -> Preview:
    row = await find_own(data.template)
    if data.version != row["version"]:
        raise refused("version", f"{row['name']} has changed: its version is {row['version']}. {STALE}")
    changes = differences(row, _given(data))
    if not changes:
        raise refused("template", "Nothing differs from what is stored.")
    return Preview(row, f"{summary_of(row)} Changes: {'; '.join(changes.values()).removesuffix('.')}.")


async def _edit(row: Any, data: TemplateEdit) -> str:
    changed = {name: value for name, value in _given(data).items() if value != row[name]}
    try:
        await update_template(PLATFORM, row["id"], convert(changed, TemplateUpdate), etag(row["id"], data.version))
    except PreconditionFailed:
        raise refused("version", f"It has changed meanwhile. {STALE}") from None
    await record(Action.UPDATE_TEMPLATE, "template", row["id"], fields=sorted(changed))
    return f"{data.name} is saved."


async def _to_retire(data: TemplateForm) -> Preview:
    row = await find_own(data.template)
    if row["retired_at"] is not None:
        raise refused("template", f"{row['name']} is retired already.")
    return Preview(
        row, f"{summary_of(row)} It will be retired, for good: its characters keep it, new ones cannot use it."
    )


async def _retire(row: Any, data: TemplateForm) -> str:
    await delete_template(PLATFORM, row["id"], None)
    return f"{row['name']} is retired."


async def _to_hide(data: TemplateForm) -> Preview:
    row = await _find(data.template)
    if row["owner"] is None:
        raise refused("template", f"{row['name']} is the platform's: edit or retire it.")
    if row["visibility"] == "private":
        raise refused("template", f"{row['name']} is private already.")
    effect = f"It is {row['username']}'s. It will be private: only its owner sees it, and can change that."
    return Preview(row, f"{summary_of(row)} {effect}")


async def _hide(row: Any, data: TemplateForm) -> str:
    owner = Caller(id=row["owner"], username=row["username"])
    await update_template(owner, row["id"], TemplateUpdate(visibility="private"), None)
    return f"{row['name']} of {row['username']} is hidden: it is private now."


_GROUP = "Templates"
FORMS: list[FormConfig] = [
    operator_form(
        "Create a template",
        _GROUP,
        "A template of the platform, which all members can use. Its version 1 is published immediately.",
        NewTemplate,
        _to_create,
        _create,
    ),
    operator_form(
        "Edit a template",
        _GROUP,
        "Of the platform. A new version changes the schema and the prompt.",
        TemplateEdit,
        _to_edit,
        _edit,
    ),
    operator_form(
        "Retire a template",
        _GROUP,
        "Of the platform, for good. Its characters keep it; new ones cannot use it.",
        TemplateForm,
        _to_retire,
        _retire,
    ),
    operator_form(
        "Hide a template",
        _GROUP,
        "Makes a member's template private. The owner can show it again.",
        TemplateForm,
        _to_hide,
        _hide,
    ),
]
