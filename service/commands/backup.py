"""``piccolo service backup``: the database and the uploaded files, in a directory."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg

from service.commands.collect_files import LOCK
from service.commands.manifest import DUMP, FILES, NAMES, Manifest, files_below, write_durably, write_manifest
from service.commands.stored_files import NAMED_FILES, expected_names, owners_of
from service.database.dumps import DumpError, dump
from service.database.engine import DB
from service.database.held import slow_work_allowed
from service.media.storage import STORAGE, Directory, sync_directory
from service.settings import VERSION

# The names of the tables are quoted already
TABLES = (
    "SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE relkind = 'r' AND nspname = 'public' ORDER BY 1"
)
# A table or sequence that pg_dump needs and the role may not read
_UNREADABLE = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    " AND CASE relkind WHEN 'r' THEN NOT has_table_privilege(oid, 'SELECT')"
    " WHEN 'S' THEN NOT has_sequence_privilege(oid, 'SELECT') ELSE false END ORDER BY relname LIMIT 1"
)
_ROLES = (
    "SELECT current_user AS role, pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = current_database()"
)


_SHOWN = 20  # of the missing files


class _Refused(Exception):
    """The message says in one line why no backup was begun."""


class _Snapshot(NamedTuple):
    """The contents of the dump, read at one moment."""

    name: str
    migrations: list[tuple[str, str]]
    rows: dict[str, int]
    stored: dict[str, bool]  # the names of files that the storage may have, and whether it must


def backup(directory: str) -> None:
    """
    Back up the database and the uploaded files into a new directory, while the service runs.

    The directory appears when the backup is complete. It has a dump of the database (pg_dump's directory format), the
    uploaded files, and a manifest with the SHA-256 of every file. Files in a bucket (STORAGE_URL) are not copied: the
    backup has their names. It has no settings: keep SECRET_KEY and SECOND_FACTOR_KEY elsewhere.

    It needs the rights of the owner of the database, and pg_dump of PostgreSQL's version. Restore it with `piccolo
    service restore`.

    :param directory:
        Where to put the backup. It must not exist; the directory that it is in must.

    """
    target = Path(directory).absolute()
    if target.exists() or target.is_symlink():
        raise SystemExit(f"{target} exists already: name a new directory.")
    asyncio.run(_back_up(target))


async def _back_up(target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(mode=0o700)  # what is inside is secret
        try:
            manifest = await _write(partial)
            partial.rename(target)
            sync_directory(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (_Refused, DumpError, OSError, asyncpg.PostgresError) as error:
        raise SystemExit(f"No backup was made: {error}") from None
    size = sum(file.size for file in manifest.files)
    print(f"The backup is in {target}: {len(manifest.files)} files, {size:,} bytes.")


async def _write(directory: Path) -> Manifest:
    async with DB.connection() as connection:
        await _check_role(connection)
        # Files that the dump refers to stay until they are copied
        await connection.execute(f"SELECT pg_advisory_lock_shared({LOCK})")
        version = await connection.fetchval("SELECT current_setting('server_version')")
        async with _snapshot(connection) as snapshot:
            await dump(DB.config["dsn"], directory / DUMP, connection.get_server_version().major, snapshot.name)
        print(f"database: {sum(snapshot.rows.values())} rows of {len(snapshot.rows)} tables")
        with slow_work_allowed():
            missing = await _write_files(directory, snapshot.stored)
        await _print_missing(connection, missing)
    manifest = Manifest(
        version=VERSION,
        made_at=datetime.now(UTC),
        postgresql=version,
        migrations=snapshot.migrations,
        last_migration=max((name for app, name in snapshot.migrations if app == "service"), default=""),
        rows=snapshot.rows,
        storage="directory" if isinstance(STORAGE, Directory) else "bucket",
        missing=missing,
        files=await files_below(directory),
    )
    await write_manifest(directory, manifest)
    return manifest


async def _check_role(connection: asyncpg.Connection) -> None:
    if unreadable := await connection.fetchval(_UNREADABLE):
        raise _Refused(await role_fault(connection, f"read {unreadable}"))


async def role_fault(connection: asyncpg.Connection, lacking: str) -> str:
    """Says in one line what the role may not do, and which role may."""
    row = await connection.fetchrow(_ROLES)
    return f"the role {row['role']} may not {lacking}. Use the role that owns the database, {row['owner']}."


@asynccontextmanager
async def _snapshot(connection: asyncpg.Connection) -> AsyncIterator[_Snapshot]:
    """Others can see the snapshot during the block."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        migrations = await connection.fetch("SELECT app_name, name FROM migration ORDER BY 1, 2")
        files = await connection.fetch(NAMED_FILES)
        yield _Snapshot(
            name=await connection.fetchval("SELECT pg_export_snapshot()"),
            migrations=[(row["app_name"], row["name"]) for row in migrations],
            rows=await count_rows(connection),
            stored={name: is_expected for row in files for name, is_expected in expected_names(row).items()},
        )


async def count_rows(connection: asyncpg.Connection) -> dict[str, int]:
    """The number of rows by table."""
    tables = [row[0] for row in await connection.fetch(TABLES)]
    return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}  # noqa: S608 (our own names, never a client's)


async def _write_files(directory: Path, stored: dict[str, bool]) -> list[str]:
    """Copies the uploaded files, or writes down their names if they are in a bucket. Returns those that are missing."""
    if not isinstance(STORAGE, Directory):
        write_durably(directory / NAMES, "".join(f"{name}\n" for name in stored).encode())
        print(f"files: they are in the bucket and not in the backup, which has their names in {NAMES}")
        return []
    copies, missing, count = Directory(directory / FILES), [], 0
    for name, is_expected in stored.items():
        try:
            await copies.put(name, await STORAGE.get(name))
            count += 1
        except FileNotFoundError:
            missing += [name] if is_expected else []
    print(f"files: {count} copied")
    return missing


async def _print_missing(connection: asyncpg.Connection, missing: list[str]) -> None:
    """With what belongs to them: nothing refers to those of an upload that broke off."""
    if not missing:
        return
    print(f"files: {len(missing)} that the database names are not in the storage; the manifest lists all")
    for name, owners in (await owners_of(connection, missing[:_SHOWN])).items():
        print(f"  {name}: {owners}")
