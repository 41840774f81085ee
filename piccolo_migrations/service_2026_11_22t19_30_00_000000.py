"""Indexes and constraints that Piccolo cannot declare."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.engine import DB

ID = "2026-11-22T19:30:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Indexes and constraints that Piccolo cannot declare"

STEPS = [
    # Lists are keyset scans: my own, and everyone's public ones, newest first.
    (
        "CREATE INDEX characters_owned ON characters (owner, created_at, id) WHERE deleted_at IS NULL",
        "DROP INDEX characters_owned",
    ),
    (
        "CREATE INDEX characters_public ON characters (created_at, id)"
        " WHERE visibility = 'public' AND deleted_at IS NULL",
        "DROP INDEX characters_public",
    ),
    (
        "CREATE INDEX characters_any_owner ON characters (owner)",  # for the foreign key: the trash counts, too
        "DROP INDEX characters_any_owner",
    ),
    (
        "CREATE INDEX templates_owned ON templates (owner, created_at, id)",
        "DROP INDEX templates_owned",
    ),
    (
        "CREATE INDEX templates_public ON templates (created_at, id) WHERE visibility = 'public'",
        "DROP INDEX templates_public",
    ),
    (
        "CREATE INDEX relationships_of_source ON relationships (source, created_at, id)",
        "DROP INDEX relationships_of_source",
    ),
    (
        "CREATE INDEX relationships_of_target ON relationships (target, created_at, id)",
        "DROP INDEX relationships_of_target",
    ),
    # One row for both sides: the pair has each type once, whoever made it and whichever way round.
    (
        "CREATE UNIQUE INDEX one_relationship_of_a_type_per_pair ON relationships ("
        "least(source, target), greatest(source, target), type,"
        " least(label, inverse_label), greatest(label, inverse_label))",
        "DROP INDEX one_relationship_of_a_type_per_pair",
    ),
    # A character is pinned to a version that exists.
    (
        "ALTER TABLE characters ADD CONSTRAINT pinned_to_a_known_version FOREIGN KEY (template, template_version)"
        " REFERENCES template_versions (template, number) ON DELETE RESTRICT ON UPDATE RESTRICT",
        "ALTER TABLE characters DROP CONSTRAINT pinned_to_a_known_version",
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
