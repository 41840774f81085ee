"""``piccolo service collect_files``: deletes uploaded files that nothing refers to. Run it once a day.

No request deletes a file, as another may be about to refer to it. A file that is uploaded again while it is deleted
here waits for that with its row, and then writes its bytes anew.
"""

import asyncpg
from loguru import logger
from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.held import slow_work_allowed
from service.database.prepared import Param, Prepared
from service.media.queries import stored_names
from service.media.storage import STORAGE

AT_ONCE = 20  # rows, which stay locked while their files are deleted

# Whatever may hold a file's name; each needs an index for it.
REFERRERS = (
    "SELECT FROM characters WHERE portrait = files.name",
    "SELECT FROM users WHERE avatar = files.name",
    "SELECT FROM revisions WHERE replaced ->> 'portrait' = files.name",
    "SELECT FROM card_assets WHERE file = files.name",
)

_OLD = "stored_at < now() - interval '1 day'"  # an upload stores its file first, and refers to it then
_NEXT = Prepared(
    lambda: QueryString(
        f"SELECT max(name) FROM (SELECT name FROM files WHERE name > {{}} AND {_OLD} ORDER BY name LIMIT {{}})"  # noqa: S608 (ours)
        " AS batch",
        Param("after"),
        Param("size"),
    )
)
_DELETE = Prepared(
    lambda: QueryString(
        f"DELETE FROM files WHERE name > {{}} AND name <= {{}} AND {_OLD}"  # noqa: S608 (ours)
        f" AND {' AND '.join(f'NOT EXISTS ({referrer})' for referrer in REFERRERS)} RETURNING name",
        Param("after"),
        Param("until"),
    )
)


async def collect_files() -> None:
    """Delete files that no character, member, revision or card has referred to for a day."""
    print(f"files: {await delete_unused_files()} deleted")  # noqa: T201 (a command's answer)


async def delete_unused_files() -> int:
    """How many were deleted, each with its thumbnails."""
    after, count = "", 0
    while until := await _NEXT.value(after=after, size=AT_ONCE):
        count += await _collect_between(after, until)
        after = until
    return count


async def _collect_between(after: str, until: str) -> int:
    """The rows go for good once the files are gone: what fails in between is found again. Until then they are locked,
    so this is the one place where files are deleted in a transaction. It is on the connection of this command."""
    try:
        async with DB.transaction():
            names = [row["name"] for row in await _DELETE.all(after=after, until=until)]
            with slow_work_allowed():
                await STORAGE.delete([file for name in names for file in stored_names(name)])
    except asyncpg.ForeignKeyViolationError as error:
        logger.warning("Some files are collected another time: {}", error)
        return 0
    return len(names)
