from typing import Any

from service.answers import check_if_match
from service.callers import Caller
from service.database import DB
from service.errors import NotFound
from service.pictures.queries import picture_columns, store_picture
from service.prepared import NOW, Param, Prepared
from service.users.queries import get_me
from service.users.schemas import is_username
from service.users.tables import User

_GET = Prepared(
    lambda: User.select(*picture_columns(User.avatar)).where(
        User.username == Param("username"), User.status == "active", User.avatar.is_not_null()
    )
)


async def get_avatar(username: str) -> Any:
    """Its file, as a row. Raises NotFound also for a suspended member."""
    if is_username(username) and (row := await _GET.one(username=username)):
        return row
    raise NotFound


async def update_avatar(user: Caller, content: bytes, if_match: str | None) -> Any:
    """The answer's row. Raises what ``store_picture`` raises, PreconditionFailed when ``if_match`` is stale."""
    check_if_match(if_match, user.id, (await get_me(user))["version"])  # before anything is decoded for nothing
    return await _change(user, await store_picture(content), if_match)


async def delete_avatar(user: Caller, if_match: str | None) -> None:
    """Raises NotFound when there is none."""
    await _change(user, None, if_match)


async def _change(user: Caller, name: str | None, if_match: str | None) -> Any:
    async with DB.transaction():
        row: Any = await User.select(User.version, User.avatar).where(User.id == user.id).lock_rows("UPDATE").first()
        check_if_match(if_match, user.id, row["version"])
        if name is None and row["avatar"] is None:
            raise NotFound
        if name != row["avatar"]:
            await User.update({User.avatar: name, User.version: User.version + 1, User.updated_at: NOW}).where(
                User.id == user.id
            )
        return await get_me(user)
