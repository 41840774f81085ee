"""What lists search, filter and sort characters by."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.engine import DB

ID = "2026-11-22T20:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "What lists search, filter and sort characters by"

LIVING = "WHERE deleted_at IS NULL"
PUBLIC = "WHERE visibility = 'public' AND deleted_at IS NULL"

STEPS = [
    ("CREATE EXTENSION IF NOT EXISTS unaccent", None),  # left in place: others may use it by then
    ("CREATE EXTENSION IF NOT EXISTS pg_trgm", None),
    # Case and accents do not count. Immutable as far as indexes go: the dictionary is named, not looked up.
    (
        "CREATE FUNCTION plain(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        " RETURN lower(unaccent('unaccent'::regdictionary, words))",
        "DROP FUNCTION plain(text)",
    ),
    (
        "CREATE FUNCTION character_words(name text, description text, tags text[]) RETURNS tsvector"
        " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN"
        " setweight(to_tsvector('simple', plain(name)), 'A')"
        " || setweight(to_tsvector('simple', plain(array_to_string(tags, ' '))), 'B')"
        " || setweight(to_tsvector('simple', plain(description)), 'C')",
        "DROP FUNCTION character_words(text, text, text[])",
    ),
    (
        "ALTER TABLE characters ADD COLUMN search tsvector"
        " GENERATED ALWAYS AS (character_words(name, description, tags)) STORED",
        "ALTER TABLE characters DROP COLUMN search",
    ),
    (f"CREATE INDEX characters_search ON characters USING gin (search) {LIVING}", "DROP INDEX characters_search"),
    (
        f"CREATE INDEX characters_name_alike ON characters USING gin (plain(name) gin_trgm_ops) {LIVING}",
        "DROP INDEX characters_name_alike",
    ),
    (f"CREATE INDEX characters_tags ON characters USING gin (tags) {LIVING}", "DROP INDEX characters_tags"),
    (
        f"CREATE INDEX characters_attributes ON characters USING gin (attributes) {LIVING}",
        "DROP INDEX characters_attributes",
    ),
    (f"CREATE INDEX characters_style ON characters (style) {LIVING}", "DROP INDEX characters_style"),
    (
        f"CREATE INDEX characters_owned_by_change ON characters (owner, updated_at, id) {LIVING}",
        "DROP INDEX characters_owned_by_change",
    ),
    (
        f"CREATE INDEX characters_public_by_change ON characters (updated_at, id) {PUBLIC}",
        "DROP INDEX characters_public_by_change",
    ),
    (
        f'CREATE INDEX characters_owned_by_name ON characters (owner, lower(name) COLLATE "C", id) {LIVING}',
        "DROP INDEX characters_owned_by_name",
    ),
    (
        f'CREATE INDEX characters_public_by_name ON characters (lower(name) COLLATE "C", id) {PUBLIC}',
        "DROP INDEX characters_public_by_name",
    ),
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
