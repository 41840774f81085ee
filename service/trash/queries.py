from functools import cache
from typing import Any
from uuid import UUID

from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.queries import SUMMARY, change, lock_own
from service.characters.tables import Character
from service.database import DB, Param, Prepared, json_object, sql, utc

RETENTION_DAYS = 30

_TRASHED = SUMMARY | {"deleted_at": utc(Character.deleted_at)}


@cache
def _page(*, after: bool) -> Prepared:
    def write() -> QueryString:
        rows = Character.select(json_object(_TRASHED).as_alias("item"), Character.deleted_at, Character.id).where(
            Character.owner == Param("user"), Character.deleted_at.is_not_null()
        )
        if after:
            keys = Character.deleted_at, Character.id, Param("deleted_at"), Param("id")
            rows = rows.where(QueryString("({}, {}) < ({}, {})", *keys))
        rows = rows.order_by(Character.deleted_at, Character.id, ascending=False)
        return QueryString("{} LIMIT {}", sql(rows), Param("limit"))

    return Prepared(write)


async def list_trash(user: Caller, limit: int, after: list[Any] | None) -> list[Any]:
    """The last deleted first; one row more than ``limit`` where there are more."""
    if after is None:
        return await _page(after=False).all(user=user.id, limit=limit + 1)
    return await _page(after=True).all(user=user.id, limit=limit + 1, deleted_at=after[0], id=after[1])


async def restore_character(user: Caller, character_id: UUID) -> Any:
    """Whole, as nothing of it was touched; the answer's row."""
    async with DB.transaction():
        return await change(await lock_own(user, character_id, in_trash=True), {"deleted_at": None})


async def purge_character(user: Caller, character_id: UUID) -> None:
    """For good, with its history and its relationships."""
    async with DB.transaction():
        await lock_own(user, character_id, in_trash=True)
        await Character.delete().where(Character.id == character_id)
