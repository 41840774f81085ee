"""What makes ``piccolo migrations forwards`` work bare, and one at a time when several replicas run it at once."""

from typing import Any

from piccolo.apps.migrations.commands import backwards, forwards
from piccolo.apps.migrations.tables import Migration

from service.database.engine import DB

_LOCK = "SELECT pg_advisory_lock(hashtext('piccolo_migrations'))"


def make_migrations_safe() -> None:
    """Changes Piccolo's commands in this process: ``forwards`` means ``forwards all``, and both wait their turn."""
    forwards.forwards.__defaults__ = ("all", "all", False, False)
    forwards.run_forwards = _one_at_a_time(forwards.run_forwards)
    backwards.run_backwards = _one_at_a_time(backwards.run_backwards)


def _one_at_a_time(run: Any) -> Any:
    if hasattr(run, "__wrapped__"):
        return run

    async def run_locked(*args: Any, **kwargs: Any) -> Any:
        connection = await DB.get_new_connection()
        try:
            await connection.execute(_LOCK)
            return await run(*args, **kwargs)
        finally:
            await connection.close()  # which gives the lock back, also after a crash

    run_locked.__wrapped__ = run  # type: ignore[attr-defined] # a mark, as functools leaves it
    return run_locked


async def pending_migrations() -> list[str]:
    """The ids of migrations that this release has and the database has not, oldest first."""
    from piccolo.apps.migrations.commands.base import BaseMigrationManager
    from piccolo.conf.apps import Finder

    pending: list[str] = []
    done = set()
    if await Migration.table_exists():
        done = {(row["app_name"], row["name"]) for row in await Migration.select(Migration.app_name, Migration.name)}
    for app in Finder().get_sorted_app_names():
        manager = BaseMigrationManager()
        modules = manager.get_migration_modules(manager.get_app_config(app).resolved_migrations_folder_path)
        pending += [name for name in manager.get_migration_ids(modules) if (app, name) not in done]
    return pending
