"""Brings templates and relationships into the feed of changes.

The table ``changed_rows`` has a row for each template with an owner and for each relationship, also after its deletion.
Triggers keep it. It has no foreign keys: the deletion of a row must leave its trace, and a key to the owner would lock
the user after other rows (see service/characters/locks.py)."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-25T17:10:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Bring templates and relationships into the feed of changes"

NOW = "pg_current_xact_id()::text::bigint"
_TRACED = (
    " INSERT INTO changed_rows (id, owner, kind, version, written_in)"
    " VALUES (NEW.id, {owner}, '{kind}', NEW.version, " + NOW + ")"
    " ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version, written_in = EXCLUDED.written_in;"
)
_DELETED = (
    f" UPDATE changed_rows SET version = OLD.version + 1, written_in = {NOW}, deleted_at = now() WHERE id = OLD.id;"
)
_SOURCE_OWNER = "(SELECT characters.owner FROM characters WHERE characters.id = NEW.source)"


def _trace(kind: str, table: str, owner: str, condition: str) -> list[tuple[str, str]]:
    """The triggers that keep the rows of one kind in step with their table."""
    return [
        (
            f"CREATE FUNCTION trace_{kind}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            + _TRACED.format(owner=owner, kind=kind)
            + " RETURN NULL; END $$",
            f"DROP FUNCTION trace_{kind}()",
        ),
        (
            f"CREATE FUNCTION trace_deleted_{kind}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            + _DELETED
            + " RETURN NULL; END $$",
            f"DROP FUNCTION trace_deleted_{kind}()",
        ),
        (
            f"CREATE TRIGGER trace_new AFTER INSERT ON {table} FOR EACH ROW WHEN ({condition})"
            f" EXECUTE FUNCTION trace_{kind}()",
            f"DROP TRIGGER trace_new ON {table}",
        ),
        (
            f"CREATE TRIGGER trace_changed AFTER UPDATE OF version ON {table} FOR EACH ROW"
            f" WHEN ({condition} AND OLD.version <> NEW.version) EXECUTE FUNCTION trace_{kind}()",
            f"DROP TRIGGER trace_changed ON {table}",
        ),
        (
            f"CREATE TRIGGER trace_deleted AFTER DELETE ON {table} FOR EACH ROW"
            f" EXECUTE FUNCTION trace_deleted_{kind}()",
            f"DROP TRIGGER trace_deleted ON {table}",
        ),
    ]


STEPS: list[tuple[str, str | None]] = [
    # No row may be written between the copy and the creation of the triggers
    ("LOCK TABLE characters, templates, relationships IN SHARE ROW EXCLUSIVE MODE", None),
    (
        "CREATE TABLE changed_rows (id uuid PRIMARY KEY, owner uuid NOT NULL, kind varchar(16) NOT NULL,"
        " version integer NOT NULL, written_in bigint NOT NULL, deleted_at timestamptz)",
        "DROP TABLE changed_rows",
    ),
    (
        "INSERT INTO changed_rows (id, owner, kind, version, written_in)"
        f" SELECT id, owner, 'template', version, {NOW} FROM templates WHERE owner IS NOT NULL UNION ALL"
        f" SELECT relationships.id, owner, 'relationship', relationships.version, {NOW} FROM relationships"
        "  JOIN characters ON characters.id = source",
        None,
    ),
    ("CREATE INDEX changed_rows_in_order ON changed_rows (owner, kind, written_in, id)", None),
    ("CREATE INDEX changed_rows_deleted ON changed_rows (deleted_at) WHERE deleted_at IS NOT NULL", None),
    *_trace("template", "templates", "NEW.owner", "NEW.owner IS NOT NULL"),
    *_trace("relationship", "relationships", _SOURCE_OWNER, "true"),
    (
        "CREATE TRIGGER notify_of_change AFTER INSERT OR UPDATE ON changed_rows FOR EACH ROW"
        " EXECUTE FUNCTION notify_of_change()",
        None,
    ),
    (
        "CREATE FUNCTION forget_changed_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM changed_rows WHERE owner = OLD.id;"
        " RETURN NULL; END $$",
        "DROP FUNCTION forget_changed_rows()",
    ),
    (
        "CREATE TRIGGER forget_changed_rows AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION forget_changed_rows()",
        "DROP TRIGGER forget_changed_rows ON users",
    ),
    # A relationship is hidden while one of its characters is in the trash. So the trash raises its version, too.
    (
        "DROP TRIGGER raise_versions_of_relationships ON characters",
        "CREATE TRIGGER raise_versions_of_relationships AFTER UPDATE OF name ON characters FOR EACH ROW"
        " WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION raise_versions_of_relationships()",
    ),
    (
        "CREATE TRIGGER raise_versions_of_relationships AFTER UPDATE OF name, deleted_at ON characters FOR EACH ROW"
        " WHEN (OLD.name IS DISTINCT FROM NEW.name OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)"
        " EXECUTE FUNCTION raise_versions_of_relationships()",
        "DROP TRIGGER raise_versions_of_relationships ON characters",
    ),
]
async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
