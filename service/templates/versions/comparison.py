import asyncio
from uuid import UUID

import msgspec

from service.callers import Caller
from service.database.prepared import Param, Prepared
from service.templates.rules.diff import schema_changes
from service.templates.tables import TemplateVersion
from service.templates.versions.queries import get_version
from service.templates.versions.schemas import TemplateChanges
from service.text.comparisons import first_of

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
_PUBLISHED_BEFORE = Prepared(
    lambda: (
        TemplateVersion.select(TemplateVersion.number, TemplateVersion.attribute_schema)
        .where(
            TemplateVersion.template == Param("template"),
            TemplateVersion.number < Param("number"),
            TemplateVersion.published_at.is_not_null(),
        )
        .order_by(TemplateVersion.number, ascending=False)
        .limit(1)
    )
)


async def compare_version(user: Caller, template_id: UUID, number: int) -> TemplateChanges:
    """The changes of a version against the published one before it; version 1 adds all attributes. Raises NotFound.

    Drafts in between are left out: callers other than the owner do not see them.
    """
    after = await get_version(user, template_id, number)
    before = await _PUBLISHED_BEFORE.one(template=template_id, number=number)
    found = await asyncio.to_thread(
        schema_changes,
        msgspec.json.decode(before["attribute_schema"]) if before else _NOTHING,
        msgspec.json.decode(after["attribute_schema"]),
    )
    changes, truncated = first_of(found)
    return TemplateChanges(
        before=before["number"] if before else None, after=number, changes=changes, truncated=truncated
    )
