"""The doctor's examinations of the database."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from piccolo.querystring import QueryString

from service.database.migrations import pending_migrations
from service.database.prepared import Prepared
from service.database.privileges import grants, lacking_privileges
from service.settings import settings

_OLDEST_POSTGRES = 150000
_CLOCK = 2.0  # seconds that the clocks may differ
_SHOWN = 5  # of many names

_DATABASE = Prepared(
    lambda: QueryString(
        "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,"
        " current_user AS role, current_database() AS name, clock_timestamp() AS now,"
        " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most"
    )
)
_EXTENSIONS = Prepared(
    lambda: QueryString(
        "SELECT string_agg(name, ', ') AS missing, has_database_privilege(current_database(), 'CREATE') AS may_create"
        " FROM unnest(ARRAY['pg_trgm', 'unaccent']) AS needed (name)"
        " WHERE name NOT IN (SELECT extname FROM pg_extension)"
    )
)
_TABLES = Prepared(
    lambda: QueryString(
        "SELECT count(*) AS number, coalesce(bool_or(pg_get_userbyid(relowner) = current_user), false) AS are_owned,"
        " coalesce(bool_and(has_table_privilege(oid, 'SELECT')) FILTER (WHERE relname = 'migration'), true)"
        " AS shows_migrations FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
)
_INVALID_INDEXES = Prepared(
    lambda: QueryString(
        "SELECT indexrelid::regclass::text AS name FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relnamespace = 'public'::regnamespace AND NOT (indisvalid AND indisready) ORDER BY 1"
    )
)


class Fault(Exception):
    """The message says in one line what is wrong."""


class NoTables(Fault):
    """No migration has run, so that nothing can be examined that is in tables."""


async def examine_database() -> str:
    found = await _DATABASE.one()
    if found["number"] < _OLDEST_POSTGRES:
        raise Fault(f"PostgreSQL {found['version']} is too old: 15 is needed")
    workers = int(given) if (given := os.environ.get("WEB_CONCURRENCY", "")).isdecimal() else 1
    each = 1 if settings.database_direct_url else settings.database_pool_size + 1  # a pooler has the others
    if (needed := workers * each) > found["most"]:
        raise Fault(
            f"{workers} workers (WEB_CONCURRENCY) with {each} connections each (DATABASE_POOL_SIZE) need {needed},"
            f" max_connections leaves {found['most']}"
        )
    return f"PostgreSQL {found['version']}, {found['name']} as {found['role']}; {needed} of {found['most']} connections"


async def examine_clock() -> str:
    before = datetime.now(UTC)
    found = await _DATABASE.one()
    after = datetime.now(UTC)
    difference = max((before - found["now"]).total_seconds(), (found["now"] - after).total_seconds(), 0)
    if difference > _CLOCK:
        raise Fault(f"differs by {difference:.1f} seconds from that of the database")
    return "is that of the database"


async def examine_extensions() -> str:
    found = await _EXTENSIONS.one()
    if found is None or not found["missing"]:
        return "all there"
    if found["may_create"]:
        return f"{found['missing']}: the first migration creates them"
    raise Fault(f"{found['missing']} missing: the owner's first migration creates them, or an administrator")


async def examine_migrations() -> str:
    tables = await _TABLES.one()
    if not tables["shows_migrations"]:
        raise Fault("the role may not read which ran: give it its privileges, see below")
    if pending := await pending_migrations():
        kind = Fault if tables["number"] > 1 else NoTables  # Piccolo's own comes before all migrations
        raise kind(f"{_enumerate(pending)} pending: run piccolo migrations forwards as the owner of the database")
    return "as /health/ready says"


async def examine_indexes() -> str:
    if found := [row["name"] for row in await _INVALID_INDEXES.all()]:
        raise Fault(f"{', '.join(found)}: not valid, REINDEX repairs them")
    return "all of them are right"


async def examine_privileges() -> str:
    if lacking := await lacking_privileges():
        names = _enumerate([f"{each.name} ({each.privileges})" for each in lacking])
        raise Fault(f"the role lacks {names}: run as the owner of the tables {grants(lacking)}")
    tables = await _TABLES.one()
    if tables["number"] <= 1:
        return "there are no tables yet"
    if tables["are_owned"] and settings.in_production:
        return "all of them are right; the role owns the tables, which the service does not need: serve with another"
    return "all of them are right"


def _enumerate(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
