"""Recognises a file that was imported before, and frees the usage of a card's files when another file replaces it."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns import Varchar
from piccolo.columns.indexes import IndexMethod

from service.database.migrations import add_statements

ID = "2026-11-25T17:08:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Recognise a file that was imported before"

# With its card, a file is freed by the trigger of the character: the card is gone here then.
STEPS = [
    (
        "CREATE FUNCTION free_asset() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM add_usage(owner, 0, -size_of_file(OLD.file)) FROM cards JOIN characters ON characters.id = character"
        "  WHERE cards.id = OLD.card AND NOT ended;"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION free_asset()",
    ),
    (
        "CREATE TRIGGER free_asset AFTER DELETE ON card_assets FOR EACH ROW EXECUTE FUNCTION free_asset()",
        "DROP TRIGGER free_asset ON card_assets",
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    manager.add_column(
        table_class_name="Card",
        tablename="cards",
        column_name="content",
        db_column_name="content",
        column_class_name="Varchar",
        column_class=Varchar,
        params={
            "length": 64,
            "default": None,
            "null": True,
            "primary_key": False,
            "unique": False,
            "index": True,
            "index_method": IndexMethod.btree,
            "choices": None,
            "db_column_name": None,
            "secret": False,
        },
        schema=None,
    )
    return manager
