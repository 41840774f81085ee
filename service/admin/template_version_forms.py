"""Forms of operators for the versions of the platform's own templates."""

import asyncio
from typing import Annotated, Any

import msgspec
from piccolo_admin.endpoints import FormConfig
from pydantic import ConfigDict, Field

from service.admin.character_forms import FilledFrom, RowId
from service.admin.forms import (
    Confirm,
    LongText,
    OperatorForm,
    Preview,
    Reason,
    json_object,
    operator_form,
    refused,
    shortened,
)
from service.admin.template_forms import SchemaText, find_own, summary_of
from service.audit.actions import Action
from service.audit.queries import record
from service.callers import PLATFORM
from service.errors import NotFound
from service.templates.queries import check_version
from service.templates.rules.diff import schema_changes
from service.templates.versions.queries import create_version, deprecate_version, get_version, publish_version
from service.templates.versions.schemas import TemplateVersionCreate
from service.text.comparisons import first_of
from service.validation import convert

MOST_CHANGES = 50  # that a preview shows


class VersionForm(OperatorForm):
    template: RowId
    number: Annotated[int, Field(ge=1, le=2**31 - 1, description="Of the version.")]
    reason: Reason
    confirm: Confirm = False


class NewVersion(OperatorForm):
    model_config = ConfigDict(json_schema_extra={"fill": {"table": "templates", "key": "template"}})

    template: FilledFrom
    attribute_schema: SchemaText
    prompt: Annotated[LongText, Field(description="Empty: that of the newest version.")] = ""
    reason: Reason
    confirm: Confirm = False


async def _changes(row: Any, number: int, schema: dict[str, Any]) -> str:
    """The changes from version ``number`` to ``schema``."""
    before = await get_version(PLATFORM, row["id"], number)
    old = msgspec.json.decode(before["attribute_schema"])
    found, truncated = first_of(await asyncio.to_thread(schema_changes, old, schema))
    shown = [f"{change.pointer} {', '.join(change.kinds)}" for change in found[:MOST_CHANGES]]
    if truncated or len(found) > len(shown):
        shown.append("and more")
    return f"Attributes against version {number}: {'; '.join(shown) or 'no change'}."


def _new_version(data: NewVersion) -> TemplateVersionCreate:
    given: dict[str, Any] = {"attribute_schema": json_object("attribute_schema", data.attribute_schema)}
    return convert(given | ({"prompt": data.prompt} if data.prompt else {}), TemplateVersionCreate)


async def _to_create_version(data: NewVersion) -> Preview:
    row = await find_own(data.template)
    new = _new_version(data)
    check_version(new.attribute_schema, data.prompt)
    changes = await _changes(row, row["newest_version"], new.attribute_schema)
    return Preview(row, f"{summary_of(row)} {changes} The version will be a draft, which only operators see.")


async def _create_version(row: Any, data: NewVersion) -> str:
    number, version = await create_version(PLATFORM, row["id"], _new_version(data))
    await _record(Action.CREATE_TEMPLATE_VERSION, row, version, number)
    return f"Version {number} of {row['name']} is a draft. Publish it to have characters use it."


async def _record(action: Action, template: Any, version: Any, number: int) -> None:
    await record(action, "template", template["id"], number=number, version=str(version["id"]))


async def _find_version(data: VersionForm) -> tuple[Any, Any]:
    row = await find_own(data.template)
    try:
        return row, await get_version(PLATFORM, row["id"], data.number)
    except NotFound:
        raise refused("number", f"{row['name']} has no version {data.number}.") from None


async def _to_publish(data: VersionForm) -> Preview:
    row, version = await _find_version(data)
    if version["published_at"] is not None:
        raise refused("number", f"Version {data.number} is published already.")
    changes = await _changes(row, row["newest_version"], msgspec.json.decode(version["attribute_schema"]))
    newest = f"The newest version will be {max(data.number, row['newest_version'])}."
    published = f"Version {data.number} will be published, for good. {newest}"
    effect = f"{changes} Prompt: {shortened(version['prompt'])}. {published}"
    return Preview(row, f"{summary_of(row)} {effect}")


async def _publish(row: Any, data: VersionForm) -> str:
    version = await publish_version(PLATFORM, row["id"], data.number)
    await _record(Action.PUBLISH_TEMPLATE_VERSION, row, version, data.number)
    return f"Version {data.number} of {row['name']} is published."


async def _to_deprecate(data: VersionForm) -> Preview:
    row, version = await _find_version(data)
    if version["deprecated_at"] is not None:
        raise refused("number", f"Version {data.number} is deprecated already.")
    effect = f"New characters will use version {data.number} only if they name it. This is for good."
    return Preview(row, f"{summary_of(row)} {effect}")


async def _deprecate(row: Any, data: VersionForm) -> str:
    version = await deprecate_version(PLATFORM, row["id"], data.number)
    await _record(Action.DEPRECATE_TEMPLATE_VERSION, row, version, data.number)
    return f"Version {data.number} of {row['name']} is deprecated."


_GROUP = "Templates"
FORMS: list[FormConfig] = [
    operator_form(
        "New template version",
        _GROUP,
        "A draft of a template of the platform, with another schema or prompt.",
        NewVersion,
        _to_create_version,
        _create_version,
    ),
    operator_form(
        "Publish a version",
        _GROUP,
        "Characters can use it from then on. A published version never changes.",
        VersionForm,
        _to_publish,
        _publish,
    ),
    operator_form(
        "Deprecate a version",
        _GROUP,
        "For good. New characters use it only by its number.",
        VersionForm,
        _to_deprecate,
        _deprecate,
    ),
]
