from datetime import datetime
from typing import Any
from uuid import UUID

from service.audit.queries import record
from service.callers import Caller
from service.characters.filters import FILTERS, STYLE
from service.characters.scopes import SUMMARY
from service.characters.store import change, lock_own
from service.characters.tables import Character
from service.database.engine import DB
from service.database.prepared import Param, utc
from service.lists.listing import Listing, Rows
from service.lists.statements import SortKey
from service.trash.schemas import TrashedCharacter, TrashQuery

TRASH = Listing(
    Character,
    query=TrashQuery,
    item=TrashedCharacter,
    scopes={
        "mine": (Character.owner == Param("user")) & Character.deleted_at.is_not_null() & Character.ended.eq(False)
    },
    summary=SUMMARY | {"deleted_at": utc(Character.deleted_at)},
    filters={"style": STYLE}
    | {name: FILTERS[name]._replace(selective=False) for name in ("tags", "tags.any", "template")},
    sorts={"deleted_at": SortKey(Character.deleted_at, datetime)},
    default_sort="-deleted_at",
    hidden=("tag_keys",),
)


async def list_trash(user: Caller, query: TrashQuery) -> Rows:
    return await TRASH.rows(query, scopes=["mine"], user=user.id)


async def restore_character(user: Caller, character_id: UUID) -> Any:
    """The row to render. Revisions and relationships come back with the character, as deleting it keeps them."""
    async with DB.transaction():
        return await change(await lock_own(user, character_id, in_trash=True), {"deleted_at": None})


async def purge_character(user: Caller, character_id: UUID) -> None:
    """Deletes a character with its revisions and relationships. Leaves an empty row until TRASH_DAYS after
    the deletion, with which the feed of changes reports it."""
    async with DB.transaction():
        row = await lock_own(user, character_id, in_trash=True)
        await Character.delete().where(Character.id == character_id)
        empty = Character(id=character_id, owner=user.id, name="", version=row["version"] + 1)
        empty.deleted_at, empty.ended = row["deleted_at"], True
        await Character.insert(empty)
        await record("purge", "character", character_id, member=user.id)
