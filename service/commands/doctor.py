"""``piccolo service doctor``: examines what the service needs, and says what is wrong with it."""

import asyncio
import platform
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from service.commands.doctor_database import (
    Fault,
    NoTables,
    examine_clock,
    examine_database,
    examine_extensions,
    examine_indexes,
    examine_migrations,
    examine_privileges,
)
from service.commands.stored_files import find_missing, owners_of
from service.database.engine import DB
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
_LOOKS = 40  # at the replicas, ten a second

_ADVICE = {
    "needs resync": ": run piccolo service resync",
    "in recovery": ": DATABASE_URL leads to a standby",
    "failing": ": a message has waited for more than an hour",
}


_WITHOUT_DATABASE = {"service", "temporary", "database", "storage", "smtp", "valkey"}
_WITH_TABLES = {"feed", "mail", "files"}


async def doctor() -> None:
    """
    Examine what the service needs: the database, its replicas, the storage, the mail server and Valkey.

    Prints a line for each, and changes nothing. The status is 1 if there is a fault. Run it with the settings of the
    service, before its first start and after a change of its surroundings.

    """
    examinations, faults, skipped = _examinations(), 0, []
    unusable = set[str]()
    for name, examine in examinations.items():
        if ("database" in unusable and name not in _WITHOUT_DATABASE) or (
            "migrations" in unusable and name in _WITH_TABLES
        ):
            skipped.append(name)  # it would only find the same fault
            continue
        state, text, is_usable = await _result_of(examine)
        faults += state != "ok"
        unusable |= set() if is_usable else {name}
        print(f"{state:<5}  {name:<10}  {text}")
    if skipped:
        needed = "database" if "database" in unusable else "migrations"
        print(f"{'skip':<5}  {', '.join(skipped)}: they need the {needed}")
    if faults:
        raise SystemExit(f"{faults} of {len(examinations) - len(skipped)} examinations found a fault.")


async def _result_of(examine: Callable[[], Awaitable[str]]) -> tuple[str, str, bool]:
    """The state, a text, and whether what was examined can be used nevertheless."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return "ok", await examine(), True
    except NoTables as fault:
        return "FAULT", str(fault), False
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
        "temporary": _examine_temporary_files,
        "database": examine_database,
        "clock": examine_clock,
        "extensions": examine_extensions,
        **{name: _stated(check) for name, check in checks().items()},
        "migrations": examine_migrations,
        **({"replicas": _examine_replicas} if settings.database_replica_urls else {}),
        "privileges": examine_privileges,
        "indexes": examine_indexes,
        "storage": _examine_storage,
        "files": _examine_files,
        **({"smtp": _examine_mail_server} if settings.smtp_host else {}),
        **({"valkey": partial(_examine_valkey, valkey)} if valkey else {}),
    }


async def _examine_service() -> str:
    return f"{VERSION} in {settings.environment}, Python {platform.python_version()}"


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


async def _examine_temporary_files() -> str:
    directory, kind = await asyncio.to_thread(_temporary_directory)
    if kind in ("tmpfs", "ramfs") and settings.in_production:
        raise Fault(f"{directory} is memory ({kind}): set TMPDIR to a directory on a disk")
    return str(directory)


def _temporary_directory() -> tuple[Path, str]:
    """With the kind of its file system."""
    directory = Path(tempfile.gettempdir()).resolve()
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(at, kind) for at, kind in mounts if directory.is_relative_to(at)]
    return directory, max(above, key=lambda mount: len(mount[0]))[1]


async def _examine_storage() -> str:
    files = settings.data_dir / "files"
    if not settings.storage_url:
        if (state := await asyncio.to_thread(check_storage, files)) != "ok":
            raise Fault(f"{files} is {state}")
        return str(files)
    name, content = f"doctor-{uuid7()}", b"examined"
    try:
        await STORAGE.put(name, content)
        if await STORAGE.get(name) != content:
            raise Fault("a file was read otherwise than it was written")
    finally:
        await STORAGE.delete([name])
    return settings.storage_url


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
    if settings.in_production and not settings.links_url:
        raise Fault(
            "e-mails link to pages that the service does not have: set LINKS_URL to the address of the front end"
        )
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
