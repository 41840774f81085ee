"""Adds when a user took an address that is not verified, frees the usage of a purged character before its rows are
deleted, lets a suspension lock rows in order, and counts anew what users store."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import Timestamptz
from piccolo.columns.indexes import IndexMethod

from service.database.migrations import add_statements

ID = "2026-11-25T17:02:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Bound how long an unverified address is kept, and count the usage of existing rows"

# A purged character is marked first, which frees its usage. Its other rows are deleted in batches afterwards. The
# trigger of the column portrait does not fire, as the portrait stays until the row is replaced.
PURGED = [
    (
        "CREATE FUNCTION free_purged_character() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM add_usage(OLD.owner, -1, -sum(bytes)::bigint) FROM ("
        "  SELECT size_of_file(OLD.portrait) AS bytes"
        "  UNION ALL SELECT size_of_file(replaced ->> 'portrait') FROM revisions"
        "   WHERE character = OLD.id AND replaced ->> 'portrait' IS NOT NULL"
        "  UNION ALL SELECT octet_length(data::text) FROM cards WHERE character = OLD.id"
        "  UNION ALL SELECT size_of_file(card_assets.file) FROM card_assets JOIN cards ON cards.id = card"
        "   WHERE cards.character = OLD.id) AS stored;"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION free_purged_character()",
    ),
    (
        "CREATE TRIGGER free_purged_character AFTER UPDATE OF ended ON characters FOR EACH ROW"
        " WHEN (NEW.ended AND NOT OLD.ended) EXECUTE FUNCTION free_purged_character()",
        "DROP TRIGGER free_purged_character ON characters",
    ),
]

# A suspension locks rows by id, as other transactions do, so that they do not deadlock.
SUSPENSIONS = [
    (
        "CREATE OR REPLACE FUNCTION spread_user_status() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM FROM users WHERE id = NEW.id FOR UPDATE;"
        " PERFORM FROM characters WHERE owner = NEW.id ORDER BY id FOR NO KEY UPDATE;"
        " UPDATE characters SET owner_inactive = NEW.status <> 'active' WHERE owner = NEW.id;"
        " PERFORM FROM templates WHERE owner = NEW.id ORDER BY id FOR NO KEY UPDATE;"
        " UPDATE templates SET owner_inactive = NEW.status <> 'active' WHERE owner = NEW.id;"
        " RETURN NULL; END $$",
        "CREATE OR REPLACE FUNCTION spread_user_status() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM FROM users WHERE id = NEW.id FOR UPDATE;"
        " UPDATE characters SET owner_inactive = NEW.status <> 'active' WHERE owner = NEW.id;"
        " UPDATE templates SET owner_inactive = NEW.status <> 'active' WHERE owner = NEW.id;"
        " RETURN NULL; END $$",
    ),
]

# Rows that are older than the triggers of the usage were never counted. The lock waits for writes that were counted
# already; later ones wait for the new numbers.
COUNTED = [
    ("LOCK TABLE user_usage IN SHARE ROW EXCLUSIVE MODE", None),
    ("UPDATE user_usage SET characters = 0, stored_bytes = 0", None),
    (
        'INSERT INTO user_usage ("user", characters, stored_bytes)'
        " SELECT owner, sum(number), sum(bytes) FROM ("
        "  SELECT owner, 1 AS number, coalesce(files.size, 0) AS bytes FROM characters"
        "   LEFT JOIN files ON files.name = portrait WHERE NOT ended"
        "  UNION ALL SELECT owner, 0, files.size FROM revisions JOIN files ON files.name = replaced ->> 'portrait'"
        "   JOIN characters ON characters.id = character"
        "   WHERE replaced ->> 'portrait' IS NOT NULL AND NOT ended"
        "  UNION ALL SELECT owner, 0, octet_length(data::text) FROM cards JOIN characters ON characters.id = character"
        "   WHERE NOT ended"
        "  UNION ALL SELECT owner, 0, files.size FROM card_assets JOIN files ON files.name = card_assets.file"
        "   JOIN cards ON cards.id = card JOIN characters ON characters.id = character WHERE NOT ended"
        " ) AS stored GROUP BY owner"
        ' ON CONFLICT ("user") DO UPDATE SET characters = excluded.characters, stored_bytes = excluded.stored_bytes',
        None,
    ),
]

STEPS = [*PURGED, *SUSPENSIONS, *COUNTED]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    manager.add_column(
        table_class_name="User",
        tablename="users",
        column_name="email_changed_at",
        db_column_name="email_changed_at",
        column_class_name="Timestamptz",
        column_class=Timestamptz,
        params={
            "default": None,
            "null": True,
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
