from typing import Any
from uuid import UUID

from service.answers import check_if_match
from service.callers import Caller
from service.characters.queries import change, lock_own, visible_to
from service.characters.tables import Character
from service.database import DB
from service.errors import NotFound
from service.pictures.queries import picture_columns, store_picture
from service.prepared import Param, Prepared

_GET = Prepared(
    lambda: Character.select(*picture_columns(Character.portrait), Character.visibility).where(
        Character.id == Param("id"), visible_to(Param("user")), Character.portrait.is_not_null()
    )
)


async def get_portrait(user: Caller, character_id: UUID) -> Any:
    """Its file, as a row. Raises NotFound also when the caller may not see the character."""
    if row := await _GET.one(id=character_id, user=user.id):
        return row
    raise NotFound


async def update_portrait(user: Caller, character_id: UUID, content: bytes, if_match: str | None) -> Any:
    """The answer's row. Raises what ``store_picture`` raises, PreconditionFailed when ``if_match`` is stale."""
    async with DB.transaction():  # before anything is decoded for nothing
        check_if_match(if_match, character_id, (await lock_own(user, character_id))["version"])
    return await _change(user, character_id, await store_picture(content), if_match)


async def delete_portrait(user: Caller, character_id: UUID, if_match: str | None) -> None:
    """Raises NotFound when there is none."""
    await _change(user, character_id, None, if_match)


async def _change(user: Caller, character_id: UUID, name: str | None, if_match: str | None) -> Any:
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        if name is None and row["portrait"] is None:
            raise NotFound
        return await change(row, {"portrait": name})
