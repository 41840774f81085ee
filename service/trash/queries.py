from datetime import datetime
from typing import Any
from uuid import UUID

from service.audit.actions import Action
from service.audit.queries import record
from service.callers import Caller
from service.characters.filters import FILTERS
from service.characters.purging import clear, leave_empty, mark_purged
from service.characters.scopes import SUMMARY
from service.characters.store import change, lock_own
from service.characters.tables import Character
from service.database.engine import DB
from service.database.failures import CONTENTION
from service.database.prepared import Param, utc
from service.lists.choices import any_of
from service.lists.listing import Listing, Rows
from service.lists.statements import Filter, SortKey
from service.schemas import Style
from service.trash.schemas import TrashedCharacter, TrashQuery
from service.users.credentials import keep_user

MOST_STEPS = 10  # of one request

TRASH = Listing(
    Character,
    query=TrashQuery,
    item=TrashedCharacter,
    scopes={
        "mine": (Character.owner == Param("user")) & Character.deleted_at.is_not_null() & Character.ended.eq(False)
    },
    summary=SUMMARY | {"deleted_at": utc(Character.deleted_at)},
    filters={
        "style": Filter(Character.style == Param("style")),
        "style.in": any_of(Character.style, Style),
    }
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
    the deletion, with which the feed of changes reports it. `piccolo service purge` deletes what is too much for one
    request; nobody sees that any more."""
    async with DB.transaction():
        await keep_user(user.id)
        await lock_own(user, character_id, in_trash=True)
        await mark_purged(character_id)
        await record(Action.PURGE_CHARACTER, "character", character_id, member=user.id)
    try:
        if await clear([character_id], most=MOST_STEPS):
            await leave_empty(character_id)
    except CONTENTION:
        if DB.transaction_exists():  # of the whole request: it cannot go on
            raise
