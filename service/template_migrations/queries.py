"""Migrates characters to another version of their template, and counts the characters of a template."""

from typing import Any
from uuid import UUID

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.scopes import alive, owned_by
from service.characters.store import change, lock_own
from service.characters.tables import Character
from service.database.engine import DB
from service.database.prepared import Param, Prepared, sql
from service.errors import NotFound
from service.lists.statements import MAX_COUNTED
from service.template_migrations.schemas import Move, Usage
from service.templates.queries import get_template
from service.templates.rules.validator import Rules
from service.templates.versions.queries import get_rules, get_version
from service.users.scopes import is_public
from service.validation import pointer

_TO_MIGRATE = Prepared(
    lambda: QueryString(
        "{} LIMIT {}",
        sql(
            Character.select(Character.id)
            .where(
                Character.owner == Param("user"),
                Character.template == Param("template"),
                Character.template_version != Param("number"),
                Character.deleted_at.is_null(),
                Character.id > Param("after"),
            )
            .order_by(Character.id)
        ),
        Param("limit"),
    )
)
_COUNT_TIMEOUT = 1.0  # seconds; a template may have many characters that the caller does not see


def _counted(condition: Any) -> QueryString:
    rows = Character.select(Character.template_version).where(Character.template == Param("template"), condition)
    return QueryString("({} LIMIT {})", sql(rows), Param("most"))


# A scope each, because PostgreSQL would read every character of the template for an OR of them
_USAGE = Prepared(
    lambda: QueryString(
        "SELECT template_version, count(*) AS characters FROM ({} UNION ALL {} LIMIT {}) AS counted"
        " GROUP BY template_version ORDER BY template_version",
        _counted(owned_by(Param("user"))),
        _counted(alive() & is_public(Character) & WhereRaw("{} IS DISTINCT FROM {}", Character.owner, Param("user"))),
        Param("most"),
    )
)


async def migrate_characters(
    user: Caller, template_id: UUID, number: int, limit: int, after: UUID
) -> tuple[list[Move], UUID | None]:
    """Migrates the caller's next ``limit`` characters, in the order of their ids, from the first id above ``after``.
    Returns the results, and the last id if there may be more characters.

    Each character is migrated in a transaction of its own. An interrupted migration can be repeated from the start, as
    migrated characters are skipped. Raises NotFound if the caller may not see the version or it is not published.
    """
    version = await get_version(user, template_id, number)
    if version["published_at"] is None:
        raise NotFound("This version is not published.")
    rules = await get_rules(template_id, number)
    rows = await _TO_MIGRATE.all(user=user.id, template=template_id, number=number, after=after, limit=limit)
    results = [await _migrate(user, row["id"], template_id, number, rules) for row in rows]
    return [result for result in results if result], rows[-1]["id"] if len(rows) == limit else None


async def _migrate(user: Caller, character_id: UUID, template_id: UUID, number: int, rules: Rules) -> Move | None:
    """None if another request has deleted, unpinned or migrated the character meanwhile."""
    async with DB.transaction():
        try:
            row = await lock_own(user, character_id)
        except NotFound:
            return None
        if row["template"] != template_id or row["template_version"] == number:
            return None
        before: dict[str, Any] = msgspec.json.decode(row["attributes"])
        after, problems = rules.check(before)
        if not problems:
            await change(row, {"attributes": after, "template_version": number})
        return Move(
            id=character_id,
            name=row["name"],
            before=row["template_version"],
            outcome="invalid" if problems else "moved",
            filled=[pointer("/attributes", name) for name in after if name not in before],
            problems=problems,
        )


async def count_usage(user: Caller, template_id: UUID) -> Usage:
    """Counts only characters that lists show to the caller, and stops at 10,000. Raises NotFound if they may not see
    the template, TimeoutError after a second."""
    await get_template(user, template_id)
    reader = user.within("characters:read")
    rows = await _USAGE.all(template=template_id, user=reader.id, most=MAX_COUNTED, timeout=_COUNT_TIMEOUT)
    versions = {row["template_version"]: row["characters"] for row in rows}
    return Usage(characters=sum(versions.values()), versions=versions)
