from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UnsetType
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.answers import check_if_match
from service.callers import Caller
from service.database import DB, NOW, Param, Prepared, json_object, utc
from service.errors import Conflict, Forbidden, NotFound, Unprocessable, Violation
from service.identifiers import uuid7
from service.listing import Filter, Listing, Rows, SortKey, given_filters
from service.schemas import given
from service.templates.changes import schema_changes
from service.templates.prompts import prompt_violations
from service.templates.rules import Rules
from service.templates.schemas import (
    TemplateChanges,
    TemplateCreate,
    TemplateQuery,
    TemplateUpdate,
    TemplateVersionCreate,
)
from service.templates.subset import schema_violations
from service.templates.tables import Template, TemplateVersion
from service.users.queries import profile_fields

_MOST_RULES = 1_000
_rules: dict[tuple[UUID, int], Rules] = {}  # of published versions, which never change


def _newest(column: Any) -> QueryString:
    return QueryString(
        "(SELECT {} FROM template_versions WHERE {} = {} AND {} = {})",
        column,
        TemplateVersion.template,
        Template.id,
        TemplateVersion.number,
        Template.newest_version,
    )


_OWNER = QueryString(
    "CASE WHEN {} IS NULL THEN NULL ELSE {} END",
    Template.owner,
    json_object({"id": Template.owner.id, "username": Template.owner.username}),
)
_OWNER_SHOWN = QueryString(
    "CASE WHEN {} IS NULL THEN NULL ELSE {} END", Template.owner, json_object(profile_fields(Template.owner))
)
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
VERSION: dict[str, Any] = {
    "template": TemplateVersion.template,
    "number": TemplateVersion.number,
    "state": QueryString(
        "CASE WHEN {} IS NOT NULL THEN 'deprecated' WHEN {} IS NOT NULL THEN 'published' ELSE 'draft' END",
        TemplateVersion.deprecated_at,
        TemplateVersion.published_at,
    ),
    "prompt": TemplateVersion.prompt,
    "attribute_schema": TemplateVersion.attribute_schema,
    "created_at": utc(TemplateVersion.created_at),
    "published_at": utc(TemplateVersion.published_at),
    "deprecated_at": utc(TemplateVersion.deprecated_at),
}


def visible_to(user: Any) -> Any:
    """Templates that ``user`` (an id, or None) may see: all but other members' private ones."""
    return (Template.owner == user) | (Template.visibility != "private")


_GET = Prepared(
    lambda: Template.select(
        Template.id,
        Template.version,
        json_object(
            SUMMARY
            | {
                "prompt": _newest(TemplateVersion.prompt),
                "attribute_schema": _newest(TemplateVersion.attribute_schema),
            }
        ).as_alias("item"),
    ).where(Template.id == Param("id"), visible_to(Param("user")))
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


TEMPLATES = Listing(
    Template,
    scopes={
        "mine": Template.owner == Param("user"),
        "others": (Template.visibility == "public") & WhereRaw("{} IS DISTINCT FROM {}", Template.owner, Param("user")),
        "owner": ((Template.owner == Param("user")) | (Template.visibility == "public"))
        & WhereRaw("{} = (SELECT id FROM users WHERE username = {})", Template.owner, Param("owner")),
    },
    summary=SUMMARY,
    fields=SUMMARY,
    expand={"owner": _OWNER_SHOWN},
    filters={
        "style": Filter(Template.style == Param("style"), unindexed=True),
        "visibility": Filter(Template.visibility == Param("visibility"), unindexed=True),
        "tags": Filter(WhereRaw("{} @> {}::varchar[]", Template.tags, Param("tags")), unindexed=True),
        "tags.any": Filter(WhereRaw("{} && {}::varchar[]", Template.tags, Param("tags_any")), unindexed=True),
    },
    sorts={
        "created_at": SortKey(Template.created_at, datetime),
        "updated_at": SortKey(Template.updated_at, datetime),
        "name": SortKey(QueryString('lower({}) COLLATE "C"', Template.name), str),
    },
)

_LIST_VERSIONS = Prepared(
    lambda: (
        TemplateVersion.select(json_object(VERSION).as_alias("item"))
        .where(
            TemplateVersion.template == Param("template"),
            (TemplateVersion.template.owner == Param("user")) | TemplateVersion.published_at.is_not_null(),
        )
        .order_by(TemplateVersion.number)
    )
)
_GET_VERSION = Prepared(
    lambda: TemplateVersion.select(
        TemplateVersion.prompt,
        TemplateVersion.attribute_schema,
        TemplateVersion.published_at,
        TemplateVersion.deprecated_at,
        json_object(VERSION).as_alias("item"),
    ).where(
        TemplateVersion.template == Param("template"),
        TemplateVersion.number == Param("number"),
        (TemplateVersion.template.owner == Param("user"))
        | ((TemplateVersion.template.visibility != "private") & TemplateVersion.published_at.is_not_null()),
    )
)
_USABLE = Prepared(
    lambda: Template.select(
        Template.newest_version,
        Template.retired_at,
        QueryString(
            "EXISTS (SELECT FROM template_versions WHERE {} = {} AND {} = coalesce({}::int, {}) AND {} IS NOT NULL)",
            TemplateVersion.template,
            Template.id,
            TemplateVersion.number,
            Param("number"),
            Template.newest_version,
            TemplateVersion.published_at,
            alias="published",
        ),
    ).where(Template.id == Param("id"), visible_to(Param("user")))
)


async def list_templates(user: Caller, query: TemplateQuery) -> Rows:
    """Mine and everyone's public ones, or one owner's."""
    filters = given_filters(
        {"style": query.style, "visibility": query.visibility, "tags": query.tags, "tags.any": query.tags_any}
    )
    if query.owner is None:
        scopes = ["mine", "others"] if user.id else ["others"]
        return await TEMPLATES.rows(query, scopes=scopes, filters=filters, user=user.id)
    if query.owner == "me":
        return await TEMPLATES.rows(query, scopes=["mine"], filters=filters, user=user.id)
    return await TEMPLATES.rows(query, scopes=["owner"], filters=filters, user=user.id, owner=query.owner)


async def create_template(user: Caller, data: TemplateCreate) -> Any:
    """Raises Unprocessable with every fault of the schema and the prompt."""
    check_version(data.attribute_schema, data.prompt)
    given_columns = msgspec.structs.asdict(data)
    return await _insert_template(user, given_columns, data.prompt, data.attribute_schema, visibility=data.visibility)


async def copy_template(user: Caller, template_id: UUID) -> Any:
    """A private copy of what the caller may see, with its newest published version as its first."""
    original = await _SOURCE.one(id=template_id, user=user.id)
    if original is None:
        raise NotFound
    schema = msgspec.json.decode(original["attribute_schema"])
    return await _insert_template(user, original, original["prompt"], schema, forked_from=template_id)


async def get_template(user: Caller, template_id: UUID) -> Any:
    if row := await _GET.one(id=template_id, user=user.id):
        return row
    raise NotFound


async def update_template(user: Caller, template_id: UUID, data: TemplateUpdate, if_match: str | None) -> Any:
    changes = given(data, description="", tags=[])
    async with DB.transaction():
        row = await _lock_own(user, template_id)
        check_if_match(if_match, template_id, row["version"])
        if changes:
            await _update(template_id, changes)
        return await get_template(user, template_id)


async def delete_template(user: Caller, template_id: UUID, if_match: str | None) -> None:
    """Retires it: what is pinned to it stays, nothing new begins on it."""
    async with DB.transaction():
        row = await _lock_own(user, template_id)
        check_if_match(if_match, template_id, row["version"])
        if row["retired_at"] is None:
            await _update(template_id, {"retired_at": NOW})


async def list_versions(user: Caller, template_id: UUID) -> list[Any]:
    """Drafts only for their owner."""
    await get_template(user, template_id)
    return await _LIST_VERSIONS.all(template=template_id, user=user.id)


async def get_version(user: Caller, template_id: UUID, number: int) -> Any:
    if row := await _GET_VERSION.one(template=template_id, number=number, user=user.id):
        return row
    raise NotFound


async def create_version(user: Caller, template_id: UUID, data: TemplateVersionCreate) -> tuple[int, Any]:
    """A draft. Raises Unprocessable with every fault of the schema and the prompt, Conflict on a retired template."""
    async with DB.transaction():
        row = await _lock_own(user, template_id)
        if row["retired_at"] is not None:
            raise Conflict("The template is retired.")
        prompt = data.prompt
        if isinstance(prompt, UnsetType):
            prompt = (await get_version(user, template_id, row["newest_version"]))["prompt"]
        check_version(data.attribute_schema, prompt)
        number = await TemplateVersion.count().where(TemplateVersion.template == template_id) + 1
        await _insert_version(template_id, number, prompt, data.attribute_schema)
        return number, await get_version(user, template_id, number)


async def compare_version(user: Caller, template_id: UUID, number: int) -> TemplateChanges:
    """What a version did to each attribute, against the one before; the first adds them all."""
    after = await get_version(user, template_id, number)
    before = await get_version(user, template_id, number - 1) if number > 1 else None
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    return TemplateChanges(
        before=number - 1 if before else None,
        after=number,
        changes=schema_changes(
            msgspec.json.decode(before["attribute_schema"]) if before else nothing,
            msgspec.json.decode(after["attribute_schema"]),
        ),
    )


async def publish_version(user: Caller, template_id: UUID, number: int) -> Any:
    """Published, it never changes again; done twice, it stays as it was."""
    async with DB.transaction():
        template = await _lock_own(user, template_id)
        version = await get_version(user, template_id, number)
        if version["published_at"] is None:
            await _update_version(template_id, number, {"published_at": NOW})
            await _update(template_id, {"newest_version": max(number, template["newest_version"])})
        return await get_version(user, template_id, number)


async def deprecate_version(user: Caller, template_id: UUID, number: int) -> Any:
    """It is not chosen for new characters any more, unless by its number. Raises Conflict for a draft and for the
    last published version that is left: retire the template instead."""
    async with DB.transaction():
        await _lock_own(user, template_id)
        version = await get_version(user, template_id, number)
        if version["published_at"] is None:
            raise Conflict("A draft cannot be deprecated: publish it first.")
        if version["deprecated_at"] is None:
            rest = await TemplateVersion.select(TemplateVersion.number).where(
                TemplateVersion.template == template_id,
                TemplateVersion.number != number,
                TemplateVersion.published_at.is_not_null(),
                TemplateVersion.deprecated_at.is_null(),
            )
            if not rest:
                raise Conflict("This is the last version that is not deprecated: retire the template instead.")
            await _update_version(template_id, number, {"deprecated_at": NOW})
            await _update(template_id, {"newest_version": max(row["number"] for row in rest)})
        return await get_version(user, template_id, number)


async def usable_version(
    user: Caller, template_id: UUID, number: int | None, *, beginning: bool = True
) -> tuple[int, Rules]:
    """The number and the rules of the version that a new character of ``user`` would be pinned to: the newest unless
    ``number`` says which. Raises NotFound for what is not there or not to be seen, Conflict for a retired template
    unless the character began on it before."""
    row = await _USABLE.one(id=template_id, number=number, user=user.id)
    if row is None:
        raise NotFound("There is no such template.", errors=[Violation("Is not known.", pointer="/template")])
    if not row["published"]:
        fault = Violation("Is not known, or not published.", pointer="/template_version")
        raise NotFound("There is no such version of the template.", errors=[fault])
    if beginning and row["retired_at"] is not None:
        raise Conflict("The template is retired: no new characters begin on it.")
    chosen = number or row["newest_version"]
    return chosen, await rules_of(template_id, chosen)


async def newest_version(user: Caller, template_id: UUID) -> int | None:
    """The number of the newest published version; None when the caller may not see the template."""
    row = await _USABLE.one(id=template_id, number=None, user=user.id)
    return row["newest_version"] if row else None


async def find_version(user: Caller, template_id: UUID, number: int, *, pinned_by_owner: UUID) -> Any:
    """The prompt and the schema of a version, for who may see the template or owns a character that is pinned to it."""
    if user.id == pinned_by_owner:
        return (
            await TemplateVersion.select(TemplateVersion.prompt, TemplateVersion.attribute_schema)
            .where(TemplateVersion.template == template_id, TemplateVersion.number == number)
            .first()
        )
    return await _GET_VERSION.one(template=template_id, number=number, user=user.id)


async def rules_of(template_id: UUID, number: int) -> Rules:
    """The compiled rules of a version; remembered, as no version ever changes."""
    rules = _rules.get((template_id, number))
    if rules is None:
        row: Any = (
            await TemplateVersion.select(TemplateVersion.attribute_schema)
            .where(TemplateVersion.template == template_id, TemplateVersion.number == number)
            .first()
        )
        if len(_rules) >= _MOST_RULES:
            _rules.clear()
        rules = _rules[template_id, number] = Rules(msgspec.json.decode(row["attribute_schema"]))
    return rules


def check_version(attribute_schema: dict[str, Any], prompt: str) -> None:
    """Raises Unprocessable with every fault of the schema, or else of the prompt written for it."""
    faults = schema_violations(attribute_schema) or prompt_violations(prompt, attribute_schema)
    if faults:
        raise Unprocessable.of(faults)


async def _insert_template(
    user: Caller, columns: Mapping[str, Any], prompt: str, schema: dict[str, Any], **more: Any
) -> Any:
    template_id = uuid7()
    told = {name: columns[name] for name in ("name", "description", "style", "tags")}
    async with DB.transaction():
        await Template.insert(Template(id=template_id, owner=user.id, **told, **more))
        await _insert_version(template_id, 1, prompt, schema, published_at=datetime.now(UTC))
        return await get_template(user, template_id)


async def _insert_version(template_id: UUID, number: int, prompt: str, schema: dict[str, Any], **columns: Any) -> None:
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


async def _update(template_id: UUID, changes: dict[Any, Any]) -> None:
    await Template.update({**changes, Template.version: Template.version + 1, Template.updated_at: NOW}).where(
        Template.id == template_id
    )


async def _update_version(template_id: UUID, number: int, changes: dict[Any, Any]) -> None:
    await TemplateVersion.update(changes).where(
        TemplateVersion.template == template_id, TemplateVersion.number == number
    )


async def _lock_own(user: Caller, template_id: UUID) -> Any:
    """The caller's own, locked. Raises NotFound for what they may not see, Forbidden for what is not theirs."""
    row = (
        await Template.select(
            Template.owner, Template.visibility, Template.version, Template.newest_version, Template.retired_at
        )
        .where(Template.id == template_id, visible_to(user.id))
        .lock_rows("UPDATE")
        .first()
    )
    if row is None:
        raise NotFound
    if row["owner"] != user.id:
        raise Forbidden("Only its owner may change a template.")
    return row
