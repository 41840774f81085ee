"""Purges characters in steps of bounded work. Each step is a transaction of its own, unless one is open already. An
interrupted purge goes on where it stopped.

A character is marked first. From then on nobody can restore it, and it no longer counts as usage.
"""

from collections.abc import Sequence
from uuid import UUID

from piccolo.querystring import QueryString

from service.characters.tables import Character
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared

BATCH = 500  # rows of a step

_MARK = Prepared(
    lambda: Character.update(
        {Character.ended: True, Character.version: Character.version + 1, Character.updated_at: NOW}
    ).where(Character.id == Param("id"), Character.deleted_at.is_not_null(), Character.ended.eq(False))
)


def batched(batch: str, change: str, parameter: str) -> Prepared:
    """Runs ``change`` for the ids of ``batch``, and returns how many there were. The last placeholder of ``batch`` is
    the Param ``batch``, its limit; the others are the Param that is called ``parameter``."""
    changed = f"WITH batch AS ({batch}), changed AS ({change} RETURNING 1) SELECT count(*) FROM changed"  # noqa: S608 (our own text)
    return Prepared(lambda: QueryString(changed, *[Param(parameter)] * (batch.count("{}") - 1), Param("batch")))


# Relationships and cards are features above characters, hence plain SQL. A card is deleted with its character.
_STEPS = (
    batched(  # a trigger gives each copy a new version, as it no longer shows its original
        "SELECT id FROM characters WHERE forked_from = ANY({}::uuid[]) ORDER BY id LIMIT {} FOR NO KEY UPDATE",
        "UPDATE characters SET forked_from = NULL FROM batch WHERE characters.id = batch.id",
        "ids",
    ),
    batched(
        "SELECT id FROM relationships WHERE source = ANY({}::uuid[]) OR target = ANY({}::uuid[])"
        " ORDER BY id LIMIT {} FOR UPDATE",
        "DELETE FROM relationships USING batch WHERE relationships.id = batch.id",
        "ids",
    ),
    batched(
        "SELECT id FROM revisions WHERE character = ANY({}::uuid[]) LIMIT {}",
        "DELETE FROM revisions USING batch WHERE revisions.id = batch.id",
        "ids",
    ),
)


async def mark_purged(character_id: UUID) -> None:
    """Does nothing unless the character is in the trash."""
    await _MARK.one(id=character_id)


async def clear(character_ids: Sequence[UUID], *, most: int | None = None) -> bool:
    """Deletes what belongs to marked characters, except their cards. Returns False if more than ``most`` steps are
    needed: the rest is left for the next call."""
    for step in _STEPS:
        count = BATCH
        while count == BATCH:
            if most is not None and (most := most - 1) < 0:
                return False
            count = await step.value(ids=list(character_ids), batch=BATCH)
    return True


async def leave_empty(character_id: UUID) -> None:
    """Replaces a marked character that was cleared by an empty row, with which the feed of changes reports its end."""
    async with DB.transaction():
        columns = (Character.owner, Character.version, Character.deleted_at)
        marked = (Character.id == character_id) & Character.ended.eq(True)
        row = await Character.select(*columns).where(marked).lock_rows("UPDATE").first()
        if row is None:
            return
        await Character.delete().where(Character.id == character_id)
        empty = Character(id=character_id, owner=row["owner"], name="", version=row["version"])
        empty.deleted_at, empty.ended = row["deleted_at"], True
        await Character.insert(empty)
