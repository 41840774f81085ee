"""``piccolo service stats``: how much the service stores, how much it is used, and what waits."""

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec

from service.database.engine import DB
from service.database.prepared import Prepared, text_query
from service.identifiers import DAY, first_id_since
from service.mail.outbox import WAITING

_SECONDS = 5  # for each section


_TABLES = Prepared(
    lambda: text_query(
        "SELECT counted.relname AS name, coalesce(nullif(n_live_tup, 0), greatest(reltuples, 0))::bigint AS rows,"
        " pg_table_size(relid) AS bytes, pg_indexes_size(relid) AS index_bytes"
        " FROM pg_stat_user_tables AS counted JOIN pg_class ON oid = relid"
        " ORDER BY pg_total_relation_size(relid) DESC, 1"
    )
)
_FILES = Prepared(lambda: text_query("SELECT count(*) AS count, coalesce(sum(size), 0)::bigint AS bytes FROM files"))


def _new(table: str) -> Prepared:
    return Prepared(
        lambda: text_query(
            "SELECT count(*) FILTER (WHERE id >= {}) AS hours_24, count(*) AS days_30"  # noqa: S608 (our own names)
            f" FROM {table} WHERE id >= {{}}",
            "day",
            "month",
        )
    )


_ACTIVE = Prepared(
    lambda: text_query(
        "SELECT count(DISTINCT \"user\") FILTER (WHERE last_used_at >= now() - interval '24 hours') AS hours_24,"
        " count(DISTINCT \"user\") AS days_30 FROM tokens WHERE last_used_at >= now() - interval '30 days'"
    )
)
_DATABASE = Prepared(
    lambda: text_query(
        "SELECT pg_database_size(current_database()) AS bytes,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,"
        " current_setting('max_connections')::int AS max_connections,"
        " (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float FROM pg_stat_activity"
        "  WHERE pid <> pg_backend_pid() AND backend_type = 'client backend') AS longest_transaction_seconds"
    )
)
# A role without pg_read_all_stats sees that there are standbys, but not where they are
_STANDBYS = Prepared(
    lambda: text_query(
        "SELECT coalesce(nullif(application_name, ''), 'standby') AS name, coalesce(sync_state, 'unknown') AS kind,"
        " CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END"
        " AS bytes_behind, extract(epoch FROM replay_lag)::float AS seconds_behind FROM pg_stat_replication"
        " ORDER BY name"
    )
)

_SECTIONS = {
    "tables": _TABLES,
    "files": _FILES,
    "new_characters": _new("characters"),
    "new_users": _new("users"),
    "active_users": _ACTIVE,
    "mail": WAITING,
    "database": _DATABASE,
    "standbys": _STANDBYS,
}
_LISTS = {"tables", "standbys"}


async def stats(json: bool = False) -> None:
    """
    Print how much the service stores, how much it is used, and what waits.

    It changes nothing. Each part may take 5 seconds; one that needs longer, or cannot be read, is unknown. The parts:

    - tables: the rows, as PostgreSQL estimates them, and the sizes of the table and of its indexes
    - files: the uploaded files and their bytes
    - characters and users that are new (those of seeds never are), and users whose tokens were used: in the last 24
      hours and in the last 30 days
    - mail that waits, and how old the oldest message is
    - the database: its size, its connections, and how long the longest transaction runs
    - standbys, and how far they are behind

    The transactions of other roles and the state of standbys are shown to a role with pg_read_all_stats only.

    :param json: Print one JSON object. Sizes are in bytes, times in seconds, and what is unknown is null.

    """
    found = {name: await _read(name, query) for name, query in _SECTIONS.items()}
    if json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(_report(found)))


async def _read(name: str, query: Prepared) -> Any:
    """Each part in a transaction of its own: one that is too slow ends no other."""
    try:
        async with DB.transaction():
            await DB.run_ddl(f"SET LOCAL statement_timeout = '{_SECONDS}s'")
            rows = [dict(row) for row in await query.all(day=first_id_since(DAY), month=first_id_since(30 * DAY))]
    except asyncpg.PostgresError:
        return None
    return rows if name in _LISTS else rows[0]


def _report(found: dict[str, Any]) -> Iterable[str]:
    if (tables := found["tables"]) is None:
        yield "tables: unknown"
    else:
        rows = [(each["name"], each["rows"], _size(each["bytes"]), _size(each["index_bytes"])) for each in tables]
        yield from _table(("table", "rows", "size", "indexes"), rows)
    yield ""
    names = ("new_characters", "new_users", "active_users")
    unknown = {"hours_24": None, "days_30": None}
    lately = [(name.replace("_", " "), *(found[name] or unknown).values()) for name in names]
    yield from _table(("", "24 hours", "30 days"), lately)
    yield ""
    files, mail, database = (found[name] for name in ("files", "mail", "database"))
    yield f"files: {files['count']:,}, {_size(files['bytes'])}" if files else "files: unknown"
    yield f"mail: {mail['waiting']:,} waiting, {_time(mail['oldest_seconds'])} at most" if mail else "mail: unknown"
    if database:
        yield f"database: {_size(database['bytes'])}"
        yield f"connections: {database['connections']} of {database['max_connections']}"
        yield f"longest transaction: {_time(database['longest_transaction_seconds'])}"
    else:
        yield "database: unknown"
    standbys = found["standbys"]
    if not standbys:
        yield "standbys: unknown" if standbys is None else "standbys: none"
        return
    yield ""
    yield from _table(
        ("standby", "kind", "behind", "time"),
        [(each["name"], each["kind"], _size(each["bytes_behind"]), _time(each["seconds_behind"])) for each in standbys],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterable[str]:
    texts = [head, *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _text(cell: Any) -> str:
    if cell is None:
        return "unknown"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _size(number: int | None) -> str:
    if number is None:
        return "unknown"
    power = next(power for power in (3, 2, 1) if number >= 1024**power or power == 1)
    return f"{number / 1024**power:,.1f} {'BKMG'[power]}iB"


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:,.1f} s"
