"""Indexes with which the lists of the admin site find few rows among many.

The partial ones hold few rows. The others are of tables that are written by sign-ups and by actions that are audited.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-26T16:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Index the lists of the admin site"

INDEXES = {
    "characters_trash": "characters (id) WHERE deleted_at IS NOT NULL",
    "characters_trash_search": "characters USING gin (spelt(name_key) gin_trgm_ops, tag_keys)"
    " WHERE deleted_at IS NOT NULL",
    "files_by_time": "files (stored_at)",
    "users_marked": "users (id) WHERE status = 'suspended' OR deleted_at IS NOT NULL",
    "users_by_time": "users USING brin (created_at)",
    "users_search": "users USING gin (username gin_trgm_ops, email gin_trgm_ops, display_name gin_trgm_ops)",
    "audit_log_by_row": 'audit_log ("row", id)',
    "audit_log_by_action": "audit_log (action, id)",
    "audit_log_by_address": "audit_log (address, id)",
    "audit_log_by_operator": "audit_log (operator, id) WHERE operator IS NOT NULL",
}


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, [(f"CREATE INDEX {name} ON {on}", f"DROP INDEX {name}") for name, on in INDEXES.items()])
    return manager
