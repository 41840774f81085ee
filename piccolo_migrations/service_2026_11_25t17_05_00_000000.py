"""Adds the notifications behind the stream of changes: one for each transaction and owner, whose payload is the owner's
id. PostgreSQL sends equal notifications of a transaction once.

Only changes of users whose streams are open are notified of, as service/changes/listeners.py says."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-25T17:05:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Notify of changes of characters"

# Each statement, and the statement that undoes it
STEPS = [
    (  # half of each page is free for the next renewals
        'CREATE UNLOGGED TABLE change_listeners ("user" uuid NOT NULL, worker uuid NOT NULL, until timestamptz NOT NULL,'
        ' PRIMARY KEY ("user", worker)) WITH (fillfactor = 50)',
        "DROP TABLE change_listeners",
    ),
    (
        "CREATE FUNCTION notify_of_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        ' IF EXISTS (SELECT FROM change_listeners WHERE "user" = NEW.owner) THEN'
        "  PERFORM pg_notify('changes', NEW.owner::text);"
        " END IF;"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION notify_of_change()",
    ),
    (
        "CREATE TRIGGER notify_of_insert AFTER INSERT ON characters FOR EACH ROW EXECUTE FUNCTION notify_of_change()",
        "DROP TRIGGER notify_of_insert ON characters",
    ),
    (  # written_in changes with the first write of each transaction that the feed shows
        "CREATE TRIGGER notify_of_update AFTER UPDATE ON characters FOR EACH ROW"
        " WHEN (OLD.written_in <> NEW.written_in) EXECUTE FUNCTION notify_of_change()",
        "DROP TRIGGER notify_of_update ON characters",
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
