"""A second factor is active only after its first right code. Those from before are active."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns import Boolean
from piccolo.columns.indexes import IndexMethod

from service.database.engine import DB

ID = "2026-11-27T05:10:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Tell which second factors are active"


async def delete_inactive() -> None:
    """Before the column goes: a release without it would ask for codes of these."""
    await DB.run_ddl("DELETE FROM operator_second_factors WHERE NOT active")


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    manager.add_raw_backwards(delete_inactive)
    manager.add_column(
        table_class_name="SecondFactor",
        tablename="operator_second_factors",
        column_name="active",
        db_column_name="active",
        column_class_name="Boolean",
        column_class=Boolean,
        params={
            "default": True,
            "null": False,
            "primary_key": False,
            "unique": False,
            "index": False,
            "index_method": IndexMethod.btree,
            "choices": None,
            "db_column_name": None,
            "secret": False,
        },
        schema=None,
    )
    return manager
