"""Fills in to which user an operator did something, as far as the rows exist. Undone, the detail of an entry keeps it."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-27T05:21:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Fill in to which user an operator did something"

ON = "ALTER TABLE audit_log ENABLE TRIGGER keep_audit_log"
OFF = "ALTER TABLE audit_log DISABLE TRIGGER keep_audit_log"  # which lets nobody change entries

OWNERS = """
    UPDATE audit_log SET detail = detail - 'owner', owner = coalesce(
        CASE WHEN kind = 'user' THEN "row" ELSE detail ->> 'owner' END::uuid,
        (SELECT owner FROM characters WHERE kind = 'character' AND id = "row"::uuid),
        (SELECT owner FROM templates WHERE kind = 'template' AND id = "row"::uuid),
        (SELECT characters.owner FROM relationships JOIN characters ON characters.id = source
            WHERE kind = 'relationship' AND relationships.id = "row"::uuid)
    )
    WHERE operator IS NOT NULL AND kind IN ('user', 'character', 'template', 'relationship') AND "row" IS NOT NULL
"""
KEEP = """
    UPDATE audit_log SET detail = detail || jsonb_build_object('owner', owner)
    WHERE owner IS NOT NULL AND kind <> 'user'
"""
STEPS = [
    (OFF, ON),
    (OWNERS, KEEP),
    (ON, OFF),
    (
        "CREATE INDEX audit_log_by_owner ON audit_log (owner, id) WHERE owner IS NOT NULL",
        "DROP INDEX audit_log_by_owner",
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
