"""Notes the PostgreSQL cluster to which the transaction ids of the feed of changes belong. A restored dump brings them to
another cluster, and ``piccolo service resync`` then replaces them."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-26T03:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Note the cluster of the feed of changes"

STEPS = [
    ("CREATE TABLE feed_cluster (system_identifier bigint PRIMARY KEY)", "DROP TABLE feed_cluster"),
    ("INSERT INTO feed_cluster SELECT system_identifier FROM pg_control_system()", None),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
