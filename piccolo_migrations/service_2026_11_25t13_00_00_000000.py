"""The version of a row rises with everything that its representation shows, so that no bytes change under an ETag."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.engine import DB

ID = "2026-11-25T13:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Raise the version of a row when a value of another row that it shows changes"

STEPS = [
    # A purged original: the foreign key sets forked_from to NULL. A version of a character needs its revision.
    (
        "CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.version := OLD.version + 1;"
        " NEW.updated_at := now();"
        " IF TG_TABLE_NAME = 'characters' THEN"
        "  INSERT INTO revisions (id, character, number, replaced, created_at)"
        "  VALUES (gen_random_uuid(), NEW.id, NEW.version, '{}', now());"
        " END IF;"
        " RETURN NEW;"
        " END $$",
        "DROP FUNCTION raise_version()",
    ),
    *(
        (
            f"CREATE TRIGGER raise_version_without_original BEFORE UPDATE OF forked_from ON {table} FOR EACH ROW"
            " WHEN (OLD.forked_from IS DISTINCT FROM NEW.forked_from AND OLD.version = NEW.version)"
            " EXECUTE FUNCTION raise_version()",
            f"DROP TRIGGER raise_version_without_original ON {table}",
        )
        for table in ("characters", "templates")
    ),
    # A relationship shows the names of its ends. Rows are locked in one order, so that two renames do not deadlock.
    (
        "CREATE FUNCTION raise_versions_of_relationships() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE relationships SET version = version + 1, updated_at = now() WHERE id IN ("
        "  SELECT id FROM relationships WHERE source = NEW.id OR target = NEW.id ORDER BY id FOR UPDATE);"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION raise_versions_of_relationships()",
    ),
    (
        "CREATE TRIGGER raise_versions_of_relationships AFTER UPDATE OF name ON characters FOR EACH ROW"
        " WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION raise_versions_of_relationships()",
        "DROP TRIGGER raise_versions_of_relationships ON characters",
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
