"""``piccolo service doctor``: examines what the service needs, and says what is wrong with it."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from piccolo.querystring import QueryString

from service.commands.stored_files import find_missing, owners_of
from service.database.engine import DB
from service.database.prepared import Prepared
from service.database.privileges import grants, lacking_privileges
from service.database.replicas import REPLICAS
from service.errors import Unavailable
from service.health.queries import checks
from service.health.storage import check_storage
from service.identifiers import uuid7
from service.limits.valkey import Valkey, valkey
from service.mail.smtp import check_server
from service.media.storage import STORAGE
from service.settings import VERSION, settings

_PATIENCE = 15.0  # seconds for each examination
_OLDEST_POSTGRES = 150000
_CLOCK = 2.0  # seconds that the clocks may differ
_SHOWN = 5  # of many names
_LOOKS = 40  # at the replicas, ten a second

_DATABASE = Prepared(
    lambda: QueryString(
        "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,"
        " current_user AS role, current_database() AS name, clock_timestamp() AS now,"
        " current_setting('max_connections')::int AS most"
    )
)
_MISSING_EXTENSIONS = Prepared(
    lambda: QueryString(
        "SELECT name FROM unnest(ARRAY['pg_trgm', 'unaccent']) AS needed (name)"
        " WHERE name NOT IN (SELECT extname FROM pg_extension)"
    )
)
_INVALID_INDEXES = Prepared(
    lambda: QueryString(
        "SELECT indexrelid::regclass::text AS name FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relnamespace = 'public'::regnamespace AND NOT (indisvalid AND indisready) ORDER BY 1"
    )
)


_ADVICE = {
    "pending": ": run piccolo migrations forwards, or give the role its privileges, without which it sees no migration",
    "needs resync": ": run piccolo service resync",
    "in recovery": ": DATABASE_URL leads to a standby",
    "failing": ": a message has waited for more than an hour",
}


_WITHOUT_DATABASE = {"service", "database", "storage", "smtp", "valkey"}


class Fault(Exception):
    """The message says in one line what is wrong."""


async def doctor() -> None:
    """
    Examine what the service needs: the database, its replicas, the storage, the mail server and Valkey.

    Prints a line for each, and changes nothing. The status is 1 if there is a fault. Run it with the settings of the
    service, before its first start and after a change of its surroundings.

    """
    examinations, faults, skipped = _examinations(), 0, []
    is_database_usable = True
    for name, examine in examinations.items():
        if not is_database_usable and name not in _WITHOUT_DATABASE:
            skipped.append(name)  # it would only find the same fault
            continue
        state, text, is_usable = await _result_of(examine)
        faults += state != "ok"
        is_database_usable = is_database_usable and (is_usable or name != "database")
        print(f"{state:<5}  {name:<10}  {text}")
    if skipped:
        print(f"{'skip':<5}  {', '.join(skipped)}: they need the database")
    if faults:
        raise SystemExit(f"{faults} of {len(examinations) - len(skipped)} examinations found a fault.")


async def _result_of(examine: Callable[[], Awaitable[str]]) -> tuple[str, str, bool]:
    """The state, a text, and whether what was examined can be used nevertheless."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return "ok", await examine(), True
    except Fault as fault:
        return "FAULT", str(fault), True
    except Unavailable as error:
        return "FAULT", str(error.__cause__ or error), False
    except TimeoutError:
        return "FAULT", f"no answer within {_PATIENCE:.0f} seconds", False
    except Exception as error:  # whatever it is, the operator wants to know it, and the other results
        return "FAULT", str(error) or type(error).__name__, False


def _examinations() -> Mapping[str, Callable[[], Awaitable[str]]]:
    return {
        "service": _examine_service,
        "database": _examine_database,
        "clock": _examine_clock,
        "extensions": lambda: _examine_list(_MISSING_EXTENSIONS, "missing, an administrator can create them"),
        **{name: _stated(check) for name, check in checks().items()},
        **({"replicas": _examine_replicas} if settings.database_replica_urls else {}),
        "privileges": _examine_privileges,
        "indexes": lambda: _examine_list(_INVALID_INDEXES, "not valid, REINDEX repairs them"),
        "storage": _examine_storage,
        "files": _examine_files,
        **({"smtp": _examine_mail_server} if settings.smtp_host else {}),
        **({"valkey": partial(_examine_valkey, valkey)} if valkey else {}),
    }


async def _examine_service() -> str:
    return f"{VERSION} in {settings.environment}, Python {platform.python_version()}"


async def _examine_database() -> str:
    found = await _DATABASE.one()
    if found["number"] < _OLDEST_POSTGRES:
        raise Fault(f"PostgreSQL {found['version']} is too old: 15 is needed")
    if settings.database_pool_size >= found["most"]:
        raise Fault(f"DATABASE_POOL_SIZE is {settings.database_pool_size}, max_connections only {found['most']}")
    return f"PostgreSQL {found['version']}, {found['name']} as {found['role']}"


async def _examine_clock() -> str:
    before = datetime.now(UTC)
    found = await _DATABASE.one()
    after = datetime.now(UTC)
    difference = max((before - found["now"]).total_seconds(), (found["now"] - after).total_seconds(), 0)
    if difference > _CLOCK:
        raise Fault(f"differs by {difference:.1f} seconds from that of the database")
    return "is that of the database"


async def _examine_list(query: Prepared, fault: str) -> str:
    if found := [row["name"] for row in await query.all()]:
        raise Fault(f"{', '.join(found)}: {fault}")
    return "all there" if query is _MISSING_EXTENSIONS else "all of them are right"


async def _examine_privileges() -> str:
    if lacking := await lacking_privileges():
        shown = [f"{each.name} ({each.privileges})" for each in lacking[:_SHOWN]]
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise Fault(f"the role lacks {', '.join(shown)}{more}: run as the owner of the tables {grants(lacking)}")
    return "all of them are right"


def _stated(check: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
    """A check of readiness."""

    async def examine() -> str:
        if (state := await check()) != "ok":
            raise Fault(f"{state}{_ADVICE.get(state, '')}")
        return "as /health/ready says"

    return examine


async def _examine_replicas() -> str:
    """As the service does, which needs two looks or three."""
    async with REPLICAS.watched():
        for _ in range(_LOOKS):
            if not (left_out := REPLICAS.left_out()):
                return "all of them are used"
            await asyncio.sleep(0.1)
    raise Fault("; ".join(f"{name}: {reason}" for name, reason in left_out.items()))


async def _examine_storage() -> str:
    if (state := await asyncio.to_thread(check_storage, settings.data_dir / "files")) != "ok":
        raise Fault(f"{settings.data_dir}/files is {state}")
    name, content = f"doctor-{uuid7()}", b"examined"
    try:
        await STORAGE.put(name, content)
        if await STORAGE.get(name) != content:
            raise Fault("a file was read otherwise than it was written")
    finally:
        await STORAGE.delete([name])
    return settings.storage_url or f"{settings.data_dir}/files"


async def _examine_files() -> str:
    found = await find_missing(_PATIENCE / 2)
    examined = f"{found.examined:,} that the database names{'' if found.is_complete else ', not all in the time,'}"
    if not found.names:
        return f"{examined} are there"
    async with DB.connection() as connection:
        owners = await owners_of(connection, found.names[:1])
    raise Fault(
        f"{len(found.names):,} of {examined} are missing; the first is {found.names[0]} ({owners[found.names[0]]})"
    )


async def _examine_mail_server() -> str:
    await check_server()
    return f"{settings.smtp_host}:{settings.smtp_port} accepts connections"


async def _examine_valkey(server: Valkey) -> str:
    try:
        await server.open()
        if server.is_away:
            raise Fault("does not answer, or accepts no writes")
    finally:
        await server.close()
    return "answers"
