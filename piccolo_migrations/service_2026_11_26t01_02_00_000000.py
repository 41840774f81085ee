"""Removes the column that the documents of cards replace."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import ForeignKey

ID = "2026-11-26T01:02:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Remove the data of cards that documents replace"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    manager.drop_column(table_class_name="Card", tablename="cards", column_name="data", db_column_name="data")
    manager.alter_column(
        table_class_name="Card",
        tablename="cards",
        column_name="document",
        db_column_name="document",
        params={"null": False},
        old_params={"null": True},
        column_class=ForeignKey,
        old_column_class=ForeignKey,
    )
    return manager
