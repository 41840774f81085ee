"""``piccolo service resync``: makes the feed of changes ready after a dump was restored on another server."""

from uuid import UUID

from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.prepared import Param, Prepared

BATCH_SIZE = 2_000  # rows of a transaction
TABLES = ("characters", "changed_rows")


class _Renumbering:
    """Gives rows of a table, in batches by id, the id of the transaction that does it.

    Only those whose number no transaction of this cluster has had yet: the feed would show them late."""

    def __init__(self, table: str) -> None:
        self._next = Prepared(
            lambda: QueryString(
                f"SELECT id FROM (SELECT id FROM {table} WHERE id > {{}} ORDER BY id LIMIT {{}}) AS batch"  # noqa: S608 (our own names, never a client's)
                " ORDER BY id DESC LIMIT 1",
                Param("after"),
                Param("size"),
            )
        )
        self._renumber = Prepared(
            lambda: QueryString(
                f"WITH batch AS (SELECT id FROM {table} WHERE id > {{}} AND id <= {{}}"  # noqa: S608 (our own names, never a client's)
                " AND written_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
                " ORDER BY id FOR NO KEY UPDATE),"
                f" changed AS (UPDATE {table} SET written_in = pg_current_xact_id()::text::bigint FROM batch"
                f" WHERE {table}.id = batch.id RETURNING 1)"
                " SELECT count(*) FROM changed",
                Param("after"),
                Param("until"),
            )
        )

    async def run(self) -> int:
        """The number of rows that were changed."""
        after, count = UUID(int=0), 0
        while until := await self._next.value(after=after, size=BATCH_SIZE):
            count += await self._renumber.value(after=after, until=until)
            after = until
        return count


async def resync() -> None:
    """
    Make the feed of changes ready after a dump was restored on another server.

    Clients start again without a cursor. The command can be interrupted and run again.

    """
    for table in TABLES:
        print(f"{table}: {await _Renumbering(table).run()} rows renumbered")
    async with DB.transaction():
        await DB.run_ddl("DELETE FROM feed_cluster")
        await DB.run_ddl("INSERT INTO feed_cluster SELECT system_identifier FROM pg_control_system()")
