"""What `piccolo service collect` finds those by who refer to a file."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.engine import DB

ID = "2026-11-22T22:06:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "What tells who refers to a file"

STEPS = [
    (
        "CREATE INDEX characters_portrait ON characters (portrait) WHERE portrait IS NOT NULL",
        "DROP INDEX characters_portrait",
    ),
    (
        "CREATE INDEX users_avatar ON users (avatar) WHERE avatar IS NOT NULL",
        "DROP INDEX users_avatar",
    ),
    (
        "CREATE INDEX revisions_portrait ON revisions ((replaced ->> 'portrait'))"
        " WHERE replaced ->> 'portrait' IS NOT NULL",
        "DROP INDEX revisions_portrait",
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)

    async def apply() -> None:
        for statement, _ in STEPS:
            await DB.run_ddl(statement)

    async def undo() -> None:
        for _, statement in reversed(STEPS):
            await DB.run_ddl(statement)

    manager.add_raw(apply)
    manager.add_raw_backwards(undo)
    return manager
