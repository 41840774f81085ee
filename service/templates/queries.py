from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.callers import PLATFORM, Caller
from service.database.coalesced import Coalesced
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared, json_object, utc
from service.database.replicas import from_replica
from service.errors import Forbidden, NotFound, Unprocessable
from service.etags import check_if_match
from service.identifiers import uuid7
from service.inputs import differing, given
from service.lists.choices import any_of, any_visibility
from service.lists.listing import Listing, Rows
from service.lists.search import GENERATED, by_name, filters_of, ranked, searched
from service.lists.statements import Filter, SortKey
from service.schemas import Style
from service.templates.rules.prompts import prompt_violations
from service.templates.rules.subset import schema_violations
from service.templates.schemas import TemplateCreate, TemplateQuery, TemplateSummary, TemplateUpdate
from service.templates.tables import Template, TemplateVersion
from service.users.queries import profile_fields
from service.users.scopes import has_active_owner, is_public


def _newest(column: Any) -> QueryString:
    return QueryString(
        "(SELECT {} FROM template_versions WHERE {} = {} AND {} = {})",
        column,
        TemplateVersion.template,
        Template.id,
        TemplateVersion.number,
        Template.newest_version,
    )


def _owner(fields: dict[str, Any]) -> QueryString:
    return QueryString("CASE WHEN {} IS NULL THEN NULL ELSE {} END", Template.owner, json_object(fields))


_OWNER = _owner({"id": Template.owner.id, "username": Template.owner.username})
_OWNER_SHOWN = _owner(profile_fields(Template.owner))
# Only what changes with the version; values of other rows belong in expand (service/etags.py says why).
SUMMARY: dict[str, Any] = {
    "id": Template.id,
    "version": Template.version,
    "name": Template.name,
    "description": Template.description,
    "style": Template.style,
    "tags": Template.tags,
    "visibility": Template.visibility,
    "owner": _OWNER,
    "newest_version": Template.newest_version,
    "forked_from": Template.forked_from,
    "retired_at": utc(Template.retired_at),
    "created_at": utc(Template.created_at),
    "updated_at": utc(Template.updated_at),
}

TEMPLATE = SUMMARY | {
    "prompt": _newest(TemplateVersion.prompt),
    "attribute_schema": _newest(TemplateVersion.attribute_schema),
}


def visible_to(user: Any, of: Any = Template) -> Any:
    """Templates that ``user`` (an id, or None) may see: their own, and those of others that are not private, unless the
    owner is inactive. ``of`` is the table or a foreign key to it."""
    return (of.owner == user) | (WhereRaw("{} <> 'private'", of.visibility) & has_active_owner(of))


def owned_by(user: Any, of: Any = Template) -> WhereRaw:
    """Templates of ``user`` (an id, or None, who has none); those without an owner are the platform's."""
    return WhereRaw("coalesce({}, {}::uuid) = {}", of.owner, PLATFORM.id, user)


_GET = Coalesced(
    lambda template, member: Template.select(
        Template.id, Template.version, json_object(TEMPLATE).as_alias("item")
    ).where(Template.id == template, visible_to(member)),
    template="uuid",
    member="uuid",
)
_SOURCE = Prepared(
    lambda: Template.select(
        Template.name,
        Template.description,
        Template.style,
        Template.tags,
        _newest(TemplateVersion.prompt).as_alias("prompt"),
        _newest(TemplateVersion.attribute_schema).as_alias("attribute_schema"),
    ).where(Template.id == Param("id"), visible_to(Param("user")))
)


_PUBLIC = is_public(Template)
_LISTED = (Template.owner == Param("user")) | _PUBLIC
_SEARCHED, _RANK = searched(Template)
_BY_NAME = by_name(Template)

TEMPLATES = Listing(
    Template,
    query=TemplateQuery,
    item=TemplateSummary,
    scopes={
        "mine": Template.owner == Param("user"),
        "others": _PUBLIC & WhereRaw("{} IS DISTINCT FROM {}", Template.owner, Param("user")),
        "public": _PUBLIC,
        "platform": _PUBLIC & Template.owner.is_null(),
        "owner": _LISTED & WhereRaw("{} = (SELECT id FROM users WHERE username = {})", Template.owner, Param("owner")),
        "owner_id": _LISTED & (Template.owner == Param("owner_id")),
    },
    summary=SUMMARY,
    fields=SUMMARY,
    expand={"owner": _OWNER_SHOWN},
    filters=filters_of(Template, _BY_NAME)
    | {
        "q": _SEARCHED,
        "style": Filter(Template.style == Param("style"), unindexed=True),
        "style.in": any_of(Template.style, Style, unindexed=True),
        "visibility": Filter(Template.visibility == Param("visibility"), unindexed=True),
        "visibility.in": any_visibility(Template.visibility, unindexed=True),
    },
    sorts={
        "created_at": SortKey(Template.created_at, datetime),
        "updated_at": SortKey(Template.updated_at, datetime),
        "name": _BY_NAME,
        "rank": _RANK,
    },
    hidden=GENERATED,
)


@from_replica
async def list_templates(user: Caller, query: TemplateQuery) -> Rows:
    """The caller's own templates and all public ones, or those of one owner. A search is sorted by rank by default."""
    return await TEMPLATES.owned_rows(ranked(query), user.id)


async def create_template(user: Caller, data: TemplateCreate) -> Any:
    """Raises Unprocessable with every fault of the schema and the prompt."""
    check_version(data.attribute_schema, data.prompt)
    given_columns = msgspec.structs.asdict(data)
    return await _insert_template(user, given_columns, data.prompt, data.attribute_schema, visibility=data.visibility)


async def copy_template(user: Caller, template_id: UUID) -> Any:
    """A private copy, whose version 1 is the newest published version of the original. Raises NotFound."""
    original = await _SOURCE.one(id=template_id, user=user.id)
    if original is None:
        raise NotFound
    schema = msgspec.json.decode(original["attribute_schema"])
    return await _insert_template(user, original, original["prompt"], schema, forked_from=template_id)


async def get_template(user: Caller, template_id: UUID) -> Any:
    if row := await _GET.one(template=template_id, member=user.id):
        return row
    raise NotFound


async def update_template(user: Caller, template_id: UUID, data: TemplateUpdate, if_match: str | None) -> Any:
    async with DB.transaction():
        row = await lock_own(user, template_id)
        check_if_match(if_match, template_id, row["version"])
        changes = differing(given(data, description="", tags=[], visibility="private"), row)
        if changes:
            await update_row(template_id, changes)
        if "visibility" in changes:
            seen = {"before": row["visibility"], "after": changes["visibility"]}
            await record(Action.CHANGE_VISIBILITY, "template", template_id, member=user.id, **seen)
        return await get_template(user, template_id)


async def delete_template(user: Caller, template_id: UUID, if_match: str | None) -> None:
    """Retires the template: its characters keep it, new characters cannot use it."""
    async with DB.transaction():
        row = await lock_own(user, template_id)
        check_if_match(if_match, template_id, row["version"])
        if row["retired_at"] is None:
            await update_row(template_id, {"retired_at": NOW})
            await record(Action.RETIRE_TEMPLATE, "template", template_id, member=user.id)


def check_version(attribute_schema: dict[str, Any], prompt: str) -> None:
    """Raises Unprocessable with every fault of the schema or, if it has none, of the prompt."""
    faults = schema_violations(attribute_schema) or prompt_violations(prompt, attribute_schema)
    if faults:
        raise Unprocessable.of(faults)


async def _insert_template(
    user: Caller, columns: Mapping[str, Any], prompt: str, schema: dict[str, Any], **more: Any
) -> Any:
    template_id, now = uuid7(), datetime.now(UTC)
    owner = None if user == PLATFORM else user.id
    more |= {"created_at": now, "updated_at": now}
    shared = {name: columns[name] for name in ("name", "description", "style", "tags")}
    async with DB.transaction():
        await Template.insert(Template(id=template_id, owner=owner, **shared, **more))
        await insert_version(template_id, 1, prompt, schema, published_at=now)
        return await get_template(user, template_id)


async def insert_version(template_id: UUID, number: int, prompt: str, schema: dict[str, Any], **columns: Any) -> None:
    await TemplateVersion.insert(
        TemplateVersion(
            id=uuid7(),
            template=template_id,
            number=number,
            prompt=prompt,
            attribute_schema=msgspec.json.encode(schema).decode(),
            **columns,
        )
    )


async def update_row(template_id: UUID, changes: dict[Any, Any]) -> None:
    await Template.update({**changes, Template.version: Template.version + 1, Template.updated_at: NOW}).where(
        Template.id == template_id
    )


async def lock_own(user: Caller, template_id: UUID) -> Any:
    """The caller's template, locked. Raises NotFound if the caller may not see it, Forbidden if they do not own it."""
    return await read_own(user, template_id, lock=True)


async def read_own(user: Caller, template_id: UUID, *, lock: bool = False) -> Any:
    """The same, without a lock."""
    columns = ("version", "newest_version", "retired_at", *TemplateUpdate.__struct_fields__)
    own = Template.select(*(getattr(Template, name) for name in columns)).where(
        Template.id == template_id, owned_by(user.id)
    )
    # The lock does not wait for others who use or copy the template
    if (row := await (own.lock_rows("NO KEY UPDATE") if lock else own).first()) is None:
        await get_template(user, template_id)
        raise Forbidden("Only its owner may change a template.")
    return row
