from typing import Any
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString

from service.callers import Caller
from service.database.coalesced import Coalesced
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared, json_object, sql, utc
from service.database.replicas import from_replica
from service.errors import Conflict, NotFound, QuotaExceeded, Violation
from service.lists.cursors import decode_cursor
from service.lists.listing import Rows
from service.lists.sizes import within_page
from service.parameters import PageQuery
from service.settings import settings
from service.templates.queries import (
    check_version,
    get_template,
    insert_version,
    lock_own,
    owned_by,
    update_row,
    visible_to,
)
from service.templates.rules.validator import Rules
from service.templates.tables import Template, TemplateVersion
from service.templates.versions.schemas import TemplateVersionCreate
from service.users.scopes import is_public

_MAX_RULES = 1_000
_rules: dict[tuple[UUID, int], Rules] = {}  # of published versions, which never change

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
_CHANGES = "1 + ({} IS NOT NULL)::int + ({} IS NOT NULL)::int"  # the two changes that a version can have
_SEEN_BY_ALL = is_public(TemplateVersion.template) & TemplateVersion.published_at.is_not_null()
_PUBLISHED_OR_OWN = owned_by(Param("user"), TemplateVersion.template) | TemplateVersion.published_at.is_not_null()


def _page() -> QueryString:
    rows = (
        TemplateVersion.select(json_object(VERSION).as_alias("item"), TemplateVersion.number)
        .where(
            TemplateVersion.template == Param("template"),
            _PUBLISHED_OR_OWN,
            TemplateVersion.number > Param("after"),
        )
        .order_by(TemplateVersion.number)
    )
    return within_page(QueryString("{} LIMIT {}", sql(rows), Param("limit")), ("item", "number"))


_LIST_VERSIONS = Prepared(_page)
_GET_VERSION = Prepared(
    lambda: TemplateVersion.select(
        TemplateVersion.id,
        QueryString(_CHANGES, TemplateVersion.published_at, TemplateVersion.deprecated_at, alias="version"),
        QueryString("{}", _SEEN_BY_ALL.querystring, alias="is_public"),
        TemplateVersion.prompt,
        TemplateVersion.attribute_schema,
        TemplateVersion.published_at,
        TemplateVersion.deprecated_at,
        json_object(VERSION).as_alias("item"),
    ).where(
        TemplateVersion.template == Param("template"),
        TemplateVersion.number == Param("number"),
        visible_to(Param("user"), TemplateVersion.template),
        _PUBLISHED_OR_OWN,
    )
)
_PINNABLE = Coalesced(
    lambda template, number, member: Template.select(
        Template.newest_version,
        Template.retired_at,
        QueryString(
            "EXISTS (SELECT FROM template_versions WHERE {} = {} AND {} = coalesce({}::int, {}) AND {} IS NOT NULL)",
            TemplateVersion.template,
            Template.id,
            TemplateVersion.number,
            number,
            Template.newest_version,
            TemplateVersion.published_at,
            alias="published",
        ),
    ).where(Template.id == template, visible_to(member)),
    template="uuid",
    number="int",
    member="uuid",
)


@from_replica
async def list_versions(user: Caller, template_id: UUID, query: PageQuery) -> Rows:
    """The oldest first; drafts only for their owner. Raises NotFound."""
    await get_template(user, template_id)
    name = f"versions of {template_id}"
    after = decode_cursor(query.cursor, name, (int,))[0] if query.cursor else 0
    rows = await _LIST_VERSIONS.all(template=template_id, user=user.id, after=after, limit=query.limit + 1)
    return Rows(rows, ("number",), name, None)


async def get_version(user: Caller, template_id: UUID, number: int) -> Any:
    """The row of a version. ``is_public`` says whether everyone may see it. Raises NotFound."""
    if row := await _GET_VERSION.one(template=template_id, number=number, user=user.id):
        return row
    raise NotFound


async def create_version(user: Caller, template_id: UUID, data: TemplateVersionCreate) -> tuple[int, Any]:
    """Creates a draft. Raises Unprocessable if schema or prompt is not valid, Conflict on a retired template, and
    QuotaExceeded."""
    async with DB.transaction():
        row = await lock_own(user, template_id)
        if row["retired_at"] is not None:
            raise Conflict("The template is retired.", errors=[Violation("Is retired.", parameter="template_id")])
        prompt = data.prompt
        if prompt is None:
            prompt = (await get_version(user, template_id, row["newest_version"]))["prompt"]
        check_version(data.attribute_schema, prompt)
        number = await TemplateVersion.count().where(TemplateVersion.template == template_id) + 1
        if number > settings.quota_template_versions:
            raise QuotaExceeded(f"A template may have {settings.quota_template_versions} versions.")
        await insert_version(template_id, number, prompt, data.attribute_schema)
        return number, await get_version(user, template_id, number)


async def publish_version(user: Caller, template_id: UUID, number: int) -> Any:
    """Publishes a draft, for good. Does nothing if it is published already."""
    async with DB.transaction():
        template = await lock_own(user, template_id)
        version = await get_version(user, template_id, number)
        if version["published_at"] is None:
            await _update_version(template_id, number, {"published_at": NOW})
            await update_row(template_id, {"newest_version": max(number, template["newest_version"])})
        return await get_version(user, template_id, number)


async def deprecate_version(user: Caller, template_id: UUID, number: int) -> Any:
    """Deprecates a version: new characters use it only by its number. Raises Conflict if it is a draft, or the only
    published version that is not deprecated."""
    async with DB.transaction():
        await lock_own(user, template_id)
        version = await get_version(user, template_id, number)
        if version["published_at"] is None:
            fault = Violation("Is a draft.", parameter="number")
            raise Conflict("A draft cannot be deprecated: publish it first.", errors=[fault])
        if version["deprecated_at"] is None:
            rest = await TemplateVersion.select(TemplateVersion.number).where(
                TemplateVersion.template == template_id,
                TemplateVersion.number != number,
                TemplateVersion.published_at.is_not_null(),
                TemplateVersion.deprecated_at.is_null(),
            )
            if not rest:
                fault = Violation("Is the last one for new characters.", parameter="number")
                only = "This is the only published version that is not deprecated: retire the template instead."
                raise Conflict(only, errors=[fault])
            await _update_version(template_id, number, {"deprecated_at": NOW})
            await update_row(template_id, {"newest_version": max(row["number"] for row in rest)})
        return await get_version(user, template_id, number)


async def usable_version(
    user: Caller, template_id: UUID, number: int | None, *, for_new_character: bool = True
) -> tuple[int, Rules]:
    """The number and the rules of a published version; of the newest if ``number`` is None.

    Raises NotFound if it does not exist or ``user`` may not see it, Conflict for a new character on a retired template.
    """
    row = await _PINNABLE.one(template=template_id, number=number, member=user.id)
    if row is None:
        raise NotFound("The template does not exist.", errors=[Violation("Does not exist.", pointer="/template")])
    if not row["published"]:
        fault = Violation("Does not exist, or is not published.", pointer="/template_version")
        raise NotFound("The version of the template does not exist.", errors=[fault])
    if for_new_character and row["retired_at"] is not None:
        fault = Violation("Is retired: new characters cannot use it.", pointer="/template")
        raise Conflict("The template is retired: new characters cannot use it.", errors=[fault])
    chosen = number or row["newest_version"]
    return chosen, await get_rules(template_id, chosen)


async def newest_version(user: Caller, template_id: UUID) -> int | None:
    """The number of the newest published version; None when the caller may not see the template."""
    row = await _PINNABLE.one(template=template_id, number=None, member=user.id)
    return row["newest_version"] if row else None


async def find_version(user: Caller, template_id: UUID, number: int, *, pinned_by_owner: UUID) -> Any:
    """The prompt and the schema of a version, if the caller may see it or owns the character that is pinned to it."""
    if user.id == pinned_by_owner:
        return (
            await TemplateVersion.select(TemplateVersion.prompt, TemplateVersion.attribute_schema)
            .where(TemplateVersion.template == template_id, TemplateVersion.number == number)
            .first()
        )
    return await _GET_VERSION.one(template=template_id, number=number, user=user.id)


async def get_rules(template_id: UUID, number: int) -> Rules:
    """The compiled rules of a published version, which are cached, because it never changes. Raises NotFound."""
    rules = _rules.get((template_id, number))
    if rules is None:
        row: Any = (
            await TemplateVersion.select(TemplateVersion.attribute_schema)
            .where(TemplateVersion.template == template_id, TemplateVersion.number == number)
            .first()
        )
        if row is None:  # deleted since the caller read its number
            raise NotFound("The version of the template does not exist.")
        if len(_rules) >= _MAX_RULES:
            _rules.clear()
        rules = _rules[template_id, number] = Rules(msgspec.json.decode(row["attribute_schema"]))
    return rules


async def _update_version(template_id: UUID, number: int, changes: dict[Any, Any]) -> None:
    await TemplateVersion.update(changes).where(
        TemplateVersion.template == template_id, TemplateVersion.number == number
    )
