"""``piccolo service restore``: a backup of ``piccolo service backup``, into an empty service."""

import asyncio
from pathlib import Path

import asyncpg

from service.commands.backup import TABLES, count_rows, role_fault
from service.commands.manifest import DUMP, FILES, NAMES, DamagedBackup, Manifest, verified_manifest
from service.commands.resync import resync
from service.database import dumps
from service.database.engine import DB
from service.database.migrations import known_migrations
from service.errors import Unavailable
from service.media.storage import STORAGE, Directory
from service.settings import VERSION, settings

_ARE_SHARED = (
    "SELECT EXISTS (SELECT FROM pg_class, aclexplode(relacl)"
    " WHERE pg_class.oid = to_regclass('public.users') AND grantee <> relowner)"
)


class Refused(Exception):
    """The message says in one line why nothing was restored."""


def restore(directory: str) -> None:
    """
    Restore a backup of `piccolo service backup` into an empty service.

    First, every file of the backup is compared with the manifest. Then the database is restored in one transaction,
    the uploaded files are copied into the storage, and `resync` makes the feed of changes ready. At the end, it says
    what to do next.

    The database must have no tables, and DATA_DIR no files. A backup of a newer release, with migrations that this one
    does not have, is refused. It needs the rights of the owner of the database, pg_restore of PostgreSQL's version,
    and the SECRET_KEY and SECOND_FACTOR_KEY of the old service.

    :param directory:
        The directory of the backup.

    """
    asyncio.run(_restore(Path(directory).absolute()))


async def _restore(source: Path) -> None:
    try:
        manifest = await verified_manifest(source)
        _refuse_newer(manifest)
        print(f"verified: {len(manifest.files)} files of {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC")
        await _refuse_files()
        await _restore_database(source)
    except (DamagedBackup, Refused, dumps.DumpError, OSError, asyncpg.PostgresError) as error:
        raise SystemExit(f"Nothing was restored: {error}") from None
    try:
        await _compare_rows(manifest)
        await _restore_files(source, manifest)
        await resync()
        await _print_grants()
    except (Unavailable, OSError, asyncpg.PostgresError) as error:
        raise SystemExit(
            f"The database was restored, the rest was not: {error}. Empty the database and {settings.data_dir}/files,"
            " and run this command again."
        ) from None
    print(_next_step(manifest))


def _refuse_newer(manifest: Manifest) -> None:
    known = set(known_migrations())
    apps = {app for app, _ in known}
    if unknown := sorted(name for app, name in set(manifest.migrations) - known if app in apps):
        raise Refused(
            f"the backup is of release {manifest.version} and has migrations that this release, {VERSION}, does not"
            f" have ({', '.join(unknown)}): install the release of the backup, or a newer one."
        )


async def _refuse_files() -> None:
    if not isinstance(STORAGE, Directory):
        return
    root = STORAGE.root
    if await asyncio.to_thread(lambda: any(path.is_file() for path in root.rglob("*"))):
        raise Refused(f"{root} has files: restore into an empty DATA_DIR.")


async def _restore_database(source: Path) -> None:
    async with DB.connection() as connection:
        if not await connection.fetchval("SELECT has_schema_privilege('public', 'CREATE')"):
            raise Refused(await role_fault(connection, "create tables"))
        tables = [row[0] for row in await connection.fetch(TABLES)]
        if tables == ["public.migration"] and not await connection.fetchval("SELECT count(*) FROM migration"):
            await connection.execute("DROP TABLE migration")  # Piccolo creates it before the first migration
        elif tables:
            shown = ", ".join(table.removeprefix("public.") for table in tables[:3])
            raise Refused(
                f"the database has tables ({shown}{', …' if len(tables) > 3 else ''}). Restore into a new database,"
                " before its migrations run."
            )
        server = connection.get_server_version().major
    await dumps.restore(DB.config["dsn"], source / DUMP, server)


async def _compare_rows(manifest: Manifest) -> None:
    async with DB.connection() as connection:
        rows = await count_rows(connection)
    if rows != manifest.rows:
        different = sorted(name for name in rows | manifest.rows if rows.get(name) != manifest.rows.get(name))
        raise SystemExit(f"The database was restored, but not as it was: {', '.join(different)} differ in rows.")
    print(f"database: {sum(rows.values())} rows of {len(rows)} tables restored")


async def _restore_files(source: Path, manifest: Manifest) -> None:
    if manifest.storage == "bucket":
        print(f"files: the backup has their names only, in {NAMES}: the bucket must have them")
        return
    backup = Directory(source / FILES)
    names = [Path(file.name).name for file in manifest.files if file.name.startswith(f"{FILES}/")]
    for name in names:
        await STORAGE.put(name, await backup.get(name))
    print(f"files: {len(names)} restored")


async def _print_grants() -> None:
    """A backup has no privileges, as its roles may not exist here: those of the new database apply, if it has any."""
    async with DB.connection() as connection:
        are_shared = await connection.fetchval(_ARE_SHARED)
    if settings.in_production and not are_shared:
        print(
            "privileges: only the owner may use the tables. If another role serves, let it:"
            " GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ROLE;"
            " GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ROLE;"
        )


def _next_step(manifest: Manifest) -> str:
    if set(known_migrations()) - set(manifest.migrations):
        return "Restored. This release is newer than the backup: run piccolo migrations forwards, then start it."
    return "Restored. Start the service; piccolo service doctor examines it."
