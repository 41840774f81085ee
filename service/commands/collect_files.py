"""``piccolo service collect_files``: deletes uploaded files that nothing refers to. Run it once a day.

No request deletes a file, as another request may be about to refer to it. If a file is uploaded again during its
deletion here, the upload waits for the end of the transaction and then stores the file again.
"""

import asyncpg
from loguru import logger
from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.held import slow_work_allowed
from service.database.prepared import Param, Prepared
from service.media.queries import stored_names
from service.media.storage import STORAGE

# A backup holds this lock, shared, until it has copied the files that its dump refers to
LOCK = "hashtext('collect_files')"

BATCH_SIZE = 20  # rows, which stay locked while their files are deleted

# Everything that refers to a file by its name. Each needs an index on that name.
REFERRERS = (
    "SELECT FROM characters WHERE portrait = files.name",
    "SELECT FROM users WHERE avatar = files.name",
    "SELECT FROM revisions WHERE replaced ->> 'portrait' = files.name",
    "SELECT FROM card_assets WHERE file = files.name",
)

_OLD = "stored_at < now() - interval '1 day'"  # an upload stores its file before it refers to it
_NEXT = Prepared(
    lambda: QueryString(
        f"SELECT max(name) FROM (SELECT name FROM files WHERE name > {{}} AND {_OLD} ORDER BY name LIMIT {{}})"  # noqa: S608 (our own names, never a client's)
        " AS batch",
        Param("after"),
        Param("size"),
    )
)
_DELETE = Prepared(
    lambda: QueryString(
        f"DELETE FROM files WHERE name > {{}} AND name <= {{}} AND {_OLD}"  # noqa: S608 (our own names, never a client's)
        f" AND {' AND '.join(f'NOT EXISTS ({referrer})' for referrer in REFERRERS)} RETURNING name",
        Param("after"),
        Param("until"),
    )
)


async def collect_files() -> None:
    """
    Delete files that were uploaded more than a day ago and that no character, user, revision or card refers to.

    It waits while a backup is made.

    """
    print(f"files: {await delete_unused_files()} deleted")


async def delete_unused_files() -> int:
    """Deletes unused files with their thumbnails. Returns the number of files."""
    after, count = "", 0
    while until := await _NEXT.value(after=after, size=BATCH_SIZE):
        count += await _collect_between(after, until)
        after = until
    return count


async def _collect_between(after: str, until: str) -> int:
    """Deletes rows and files in one transaction. If a file cannot be deleted, the rows stay for the next run.

    Nowhere else are files deleted in a transaction. It locks the rows until their files are gone, and uses the
    connection of this command."""
    try:
        async with DB.transaction():
            await DB.run_ddl(f"SELECT pg_advisory_xact_lock({LOCK})")
            names = [row["name"] for row in await _DELETE.all(after=after, until=until)]
            with slow_work_allowed():
                await STORAGE.delete([file for name in names for file in stored_names(name)])
    except asyncpg.ForeignKeyViolationError as error:
        logger.warning("A file is referred to again; its batch is left for the next run: {}", error)
        return 0
    return len(names)
