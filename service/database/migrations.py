"""Makes ``piccolo migrations forwards`` work without arguments and safe to run from several replicas at once."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands import backwards, forwards
from piccolo.apps.migrations.commands.base import BaseMigrationManager
from piccolo.apps.migrations.tables import Migration
from piccolo.conf.apps import Finder

from service.database.embedded_cluster import Place
from service.database.engine import DB
from service.database.failures import note_pending_migrations
from service.errors import Unavailable
from service.settings import settings

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('piccolo_migrations'))"


def make_migrations_safe() -> None:
    """Changes Piccolo's commands in this process. ``forwards`` means ``forwards all`` and refuses a database of
    another history. In both directions one process migrates at a time, and in one transaction: migrations and their
    records are stored together or not at all."""
    forwards.forwards.__defaults__ = ("all", "all", False, False)
    forwards.run_forwards = _in_one_transaction(forwards.run_forwards, before=_refuse_unknown_migrations)
    backwards.run_backwards = _in_one_transaction(backwards.run_backwards, before=_refuse_to_delete_people)


def add_statements(manager: MigrationManager, statements: Sequence[tuple[str, str | None]]) -> None:
    """Adds SQL statements to a migration, each with the one that undoes it, or None. They are undone in reverse
    order."""

    async def apply() -> None:
        for statement, _ in statements:
            await DB.run_ddl(statement)

    async def undo() -> None:
        for _, statement in reversed(statements):
            if statement:
                await DB.run_ddl(statement)

    manager.add_raw(apply)
    manager.add_raw_backwards(undo)


def _in_one_transaction(run: Any, before: Callable[..., Awaitable[None]]) -> Any:
    """``before`` gets the arguments of ``run``, and may raise SystemExit."""
    if hasattr(run, "__wrapped__"):
        return run

    async def run_locked(*args: Any, **kwargs: Any) -> Any:
        try:
            async with DB.transaction():
                await DB.run_ddl(_LOCK)
                await before(*args, **kwargs)
                return await run(*args, **kwargs)
        except Unavailable as error:
            raise SystemExit(f"The database cannot be reached: {error.__cause__ or error}") from error
        except EOFError:
            raise SystemExit("Nothing was undone, as nobody answered: add --auto_agree to agree beforehand.") from None

    run_locked.__wrapped__ = run  # type: ignore[attr-defined] # a mark, as functools leaves it
    return run_locked


async def pending_migrations() -> list[str]:
    """The ids of migrations that this release has and the database has not, oldest first."""
    applied = await applied_migrations()
    pending = [name for app, name in known_migrations() if (app, name) not in applied]
    note_pending_migrations(bool(pending))
    return pending


async def _refuse_unknown_migrations(*_: Any, **__: Any) -> None:
    """Raises SystemExit when the database has migrations of our apps that this release does not have, and lacks others.
    A database that is only newer is accepted: an older release must run on it after a rollback."""
    known, applied = set(known_migrations()), await applied_migrations()
    apps = {app for app, _ in known}
    unknown = sorted(name for app, name in applied - known if app in apps)
    if not unknown or known <= applied:
        return
    if DB.is_embedded:
        raise SystemExit(
            "The development database was created by another version of the service and cannot be migrated: "
            f"delete {Place(settings.data_dir).home} to start with an empty one."
        )
    raise SystemExit(
        f"The database has migrations that this release does not have ({', '.join(unknown)}), so nothing was changed: "
        "run the release that has them, or set DATABASE_URL to another database."
    )


async def _refuse_to_delete_people(app_name: str, migration_id: str = "1", *_: Any, **options: Any) -> None:
    """Raises SystemExit when an undo would reach the oldest migration of an app, and so remove the tables of people who
    are in them. The id of that migration does it on purpose: "all" is too near to ``forwards all``."""
    if options.get("preview"):
        return
    applied = await applied_migrations()
    people: list[str] = []
    on_purpose: list[str] = []
    for app, counts in _PEOPLE.items():
        ids = sorted(name for of, name in applied if of == app)
        chosen = "all" if app_name == "all" else migration_id if app_name == app else None
        if ids and (chosen == "all" or (chosen == "1" and len(ids) == 1)):
            found = [text for table, words in counts.items() if (text := await _count(table, words))]
            people += found
            on_purpose += [f"piccolo migrations backwards {app} {ids[0]}"] if found else []
    if people:
        raise SystemExit(
            f"Nothing was undone, as it would delete {' and '.join(people)} with all that is theirs: to do it on"
            f" purpose, name the oldest migration ({', '.join(on_purpose)})."
        )


# By app and table, what a row is, and rows are
_PEOPLE = {"user": {"piccolo_user": ("operator", "operators")}, "service": {"users": ("user", "users")}}


async def _count(table: str, words: tuple[str, str]) -> str:
    """The number of rows in words; empty if there are none."""
    if not (await DB.run_ddl(f"SELECT to_regclass('{table}') IS NOT NULL AS exists"))[0]["exists"]:
        return ""
    count = (await DB.run_ddl(f"SELECT count(*) AS rows FROM {table}"))[0]["rows"]  # noqa: S608 (our own names)
    return f"{count:,} {words[count != 1]}" if count else ""


def known_migrations() -> list[tuple[str, str]]:
    """The app and id of each migration of this release, oldest first."""
    known: list[tuple[str, str]] = []
    for app in Finder().get_sorted_app_names():
        manager = BaseMigrationManager()
        modules = manager.get_migration_modules(manager.get_app_config(app).resolved_migrations_folder_path)
        known += [(app, name) for name in manager.get_migration_ids(modules)]
    return known


async def applied_migrations() -> set[tuple[str, str]]:
    if not await Migration.table_exists():
        return set()
    return {(row["app_name"], row["name"]) for row in await Migration.select(Migration.app_name, Migration.name)}
