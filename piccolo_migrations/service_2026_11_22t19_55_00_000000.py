"""What the feed of changes reads by: each write of a character leaves its transaction's number."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.engine import DB

ID = "2026-11-22T19:55:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Number the transactions that write characters"

STEPS = [
    (
        "CREATE FUNCTION number_transaction() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.written_in := pg_current_xact_id()::text::bigint; RETURN NEW; END $$",
        "DROP FUNCTION number_transaction()",
    ),
    (
        "CREATE TRIGGER number_transaction BEFORE INSERT OR UPDATE ON characters"
        " FOR EACH ROW EXECUTE FUNCTION number_transaction()",
        "DROP TRIGGER number_transaction ON characters",
    ),
    (
        "CREATE INDEX characters_changed ON characters (owner, written_in, id)",
        "DROP INDEX characters_changed",
    ),
    # which serves the foreign key, too
    (
        "DROP INDEX characters_any_owner",
        "CREATE INDEX characters_any_owner ON characters (owner)",
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
