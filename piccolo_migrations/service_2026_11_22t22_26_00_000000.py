"""The audit log is written once, and piccolo_api's table of sessions, with tokens in clear, is not needed any more."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.engine import DB

ID = "2026-11-22T22:26:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Keep the audit log as it is written, and no token in clear"

STEPS = [
    # One door, for retention: a transaction that says so deletes what is older than any retention may be short.
    (
        "CREATE FUNCTION keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF TG_OP = 'DELETE' THEN"
        "  IF current_setting('audit_log.purging', true) = 'on' AND OLD.created_at < now() - interval '30 days' THEN"
        "   RETURN OLD;"
        "  END IF;"
        " END IF;"
        " RAISE EXCEPTION 'The audit log is append-only.' USING ERRCODE = 'insufficient_privilege';"
        " END $$",
        "DROP FUNCTION keep_audit_log()",
    ),
    (
        "CREATE TRIGGER keep_audit_log BEFORE UPDATE OR DELETE ON audit_log"
        " FOR EACH ROW EXECUTE FUNCTION keep_audit_log()",
        "DROP TRIGGER keep_audit_log ON audit_log",
    ),
    (
        "CREATE TRIGGER keep_whole_audit_log BEFORE TRUNCATE ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION keep_audit_log()",
        "DROP TRIGGER keep_whole_audit_log ON audit_log",
    ),
    # The export of a member's own entries
    (
        "CREATE INDEX audit_log_by_member ON audit_log (member, id) WHERE member IS NOT NULL",
        "DROP INDEX audit_log_by_member",
    ),
    # Retention
    ("CREATE INDEX audit_log_by_time ON audit_log USING brin (created_at)", "DROP INDEX audit_log_by_time"),
    # The limit on wrong passwords for the admin site
    (
        "CREATE INDEX audit_log_refused_operators ON audit_log (address, created_at)"
        " WHERE kind = 'operator' AND action = 'refuse_password'",
        "DROP INDEX audit_log_refused_operators",
    ),
    # Operators sign in again. An older release makes its table itself, as it finds its migration not run.
    ("DROP TABLE IF EXISTS sessions", None),
    ("DELETE FROM migration WHERE app_name = 'session_auth'", None),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)

    async def apply() -> None:
        for statement, _ in STEPS:
            await DB.run_ddl(statement)

    async def undo() -> None:
        for _, statement in reversed(STEPS):
            if statement:
                await DB.run_ddl(statement)

    manager.add_raw(apply)
    manager.add_raw_backwards(undo)
    return manager
