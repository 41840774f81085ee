"""Gives every action in the audit log a name of a verb and its object, such as suspend_user.

The release before has other names. A trigger renames what it records, beside this one or after a rollback.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-27T05:30:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Name actions in the audit log by verb and object"

ON = "ALTER TABLE audit_log ENABLE TRIGGER keep_audit_log"
OFF = "ALTER TABLE audit_log DISABLE TRIGGER keep_audit_log"  # which lets nobody change entries

VERBS = (
    "create", "revoke", "trash", "restore", "purge", "retire", "leave", "suspend", "reactivate", "update", "publish",
    "deprecate", "delete", "export", "run", "disable", "enable",
)  # fmt: skip
IS_VERB = f"action = ANY ('{{{','.join(VERBS)}}}')"
NAME = """
    CASE
        WHEN action = 'leave' THEN 'delete_user'
        WHEN action = 'run' THEN 'run_task'
        WHEN kind = 'template' AND (action IN ('publish', 'deprecate') OR action = 'create' AND detail ? 'number')
            THEN action || '_template_version'
        ELSE action || '_' || kind
    END
"""
# Members left, and operators deleted accounts. All others begin with their verb
NAMED = [f"{verb}_{kind}" for verb in VERBS for kind in ("user", "api_key", "character", "relationship", "template",
         "template_version", "operator", "task")]  # fmt: skip
FORMER = f"""
    UPDATE audit_log SET action = CASE
        WHEN action = 'delete_user' AND member IS NOT NULL THEN 'leave' ELSE split_part(action, '_', 1)
    END
    WHERE action = ANY ('{{{",".join(NAMED)}}}')
"""
STEPS = [
    (OFF, ON),
    (f"UPDATE audit_log SET action = {NAME} WHERE {IS_VERB}", FORMER),
    (ON, OFF),
    (
        "CREATE FUNCTION name_action() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" NEW.action := (SELECT {NAME} FROM (SELECT NEW.action, NEW.kind, NEW.detail) AS new);"
        " RETURN NEW;"
        " END $$",
        "DROP FUNCTION name_action()",
    ),
    (
        f"CREATE TRIGGER name_action BEFORE INSERT ON audit_log FOR EACH ROW WHEN (NEW.{IS_VERB})"
        " EXECUTE FUNCTION name_action()",
        "DROP TRIGGER name_action ON audit_log",
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
