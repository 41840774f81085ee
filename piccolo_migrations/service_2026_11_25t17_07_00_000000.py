"""Raises the bounds of names to 256 characters and of tags to 100, and bounds the text that is searched."""

from typing import Any

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns import Array, Varchar

from service.database.engine import DB

ID = "2026-11-25T17:07:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Raise the bounds of names and tags, and bound the text that is searched"

TABLES = ("characters", "templates")
NAME, TAG = (120, 256), (50, 100)  # characters, before and after

LIVING = "WHERE deleted_at IS NULL"
PUBLIC_CHARACTERS = "WHERE visibility = 'public' AND NOT owner_inactive AND deleted_at IS NULL"
PUBLIC_TEMPLATES = "WHERE visibility = 'public' AND NOT owner_inactive"

# PostgreSQL changes no type of a column that a generated column or the condition of a trigger reads. So these are
# dropped before, with their indexes, and made again after.
DERIVED = [
    (
        "CREATE TRIGGER raise_versions_of_relationships AFTER UPDATE OF name ON characters FOR EACH ROW"
        " WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION raise_versions_of_relationships()",
        "DROP TRIGGER raise_versions_of_relationships ON characters",
    ),
    *(
        (
            f"ALTER TABLE {table}"
            " ADD COLUMN search tsvector GENERATED ALWAYS AS (character_words(name, description, tags)) STORED,"
            " ADD COLUMN tag_keys text[] GENERATED ALWAYS AS (tag_keys(tags)) STORED,"
            ' ADD COLUMN name_key text COLLATE "C" GENERATED ALWAYS AS (name_key(name)) STORED',
            f"ALTER TABLE {table} DROP COLUMN search, DROP COLUMN tag_keys, DROP COLUMN name_key",
        )
        for table in TABLES
    ),
    *(
        (f"CREATE INDEX {name} ON {on}", f"DROP INDEX {name}")
        for name, on in {
            "characters_owned_by_name": f"characters (owner, name_key, id) {LIVING}",
            "characters_public_by_name": f"characters (name_key, id) {PUBLIC_CHARACTERS}",
            "characters_tags": f"characters USING gin (tag_keys) {LIVING}",
            "characters_name_alike": f"characters USING gin (name_key gin_trgm_ops) {LIVING}",
            "characters_search": f"characters USING gin (search) {LIVING}",
            "templates_owned_by_name": "templates (owner, name_key, id)",
            "templates_public_by_name": f"templates (name_key, id) {PUBLIC_TEMPLATES}",
            "templates_tags": "templates USING gin (tag_keys)",
            "templates_name_alike": "templates USING gin (name_key gin_trgm_ops)",
            "templates_search": "templates USING gin (search)",
        }.items()
    ),
]
DERIVE = [create for create, _ in DERIVED]
UNDERIVE = [drop for _, drop in reversed(DERIVED)]


def _types(which: int) -> list[str]:
    return [
        f"ALTER TABLE {table} ALTER COLUMN name TYPE varchar({NAME[which]}),"
        f" ALTER COLUMN tags TYPE varchar({TAG[which]})[]"
        for table in TABLES
    ]


def _name_key(length: int) -> str:
    """Of at most as many letters as a name, so that it fits into an index and a cursor."""
    return (
        "CREATE OR REPLACE FUNCTION name_key(name text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        f" RETURN left(plain(name), {length})"
    )


# A tsvector has at most 1 MiB: 26 bytes for each letter of an unspaced script, all of them different. So 16,000 letters
# of a description and 20,000 of tags fit. It also numbers no word beyond 16,383, and finds no phrase there. Folding can
# make a letter to many, so the text is cut before and after it.
def _bounded(text: str, length: int) -> str:
    return f"words_and_parts(left(plain(left({text}, {length})), {length}))"


_TAGS = "array_to_string(tags, ' ')"
BOUNDED_WORDS = (
    "CREATE OR REPLACE FUNCTION character_words(name text, description text, tags text[]) RETURNS tsvector"
    " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN"
    f" setweight({_bounded('name', NAME[1])}, 'A')"
    f" || setweight({_bounded(_TAGS, 20_200)}, 'B')"
    f" || setweight({_bounded('description', 16_000)}, 'C')"
)
WHOLE_WORDS = (
    "CREATE OR REPLACE FUNCTION character_words(name text, description text, tags text[]) RETURNS tsvector"
    " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN"
    " setweight(words_and_parts(plain(name)), 'A')"
    " || setweight(words_and_parts(plain(array_to_string(tags, ' '))), 'B')"
    " || setweight(words_and_parts(plain(description)), 'C')"
)

# Backwards, nothing is cut: the release before could neither hold, restore nor index longer texts.
_TOO_LONG = (
    "length({row} ->> 'name') > 120 OR length({row} ->> 'description') > 10000"
    " OR jsonb_array_length(coalesce(nullif({row} -> 'tags', 'null'), '[]')) > 20"
    " OR EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(nullif({row} -> 'tags', 'null'), '[]')) AS tag"
    " WHERE length(tag) > 50)"
)
_ROWS = " UNION ALL ".join(
    f"SELECT '{table}' AS source, id FROM {table} WHERE {_TOO_LONG.format(row=row)}"  # noqa: S608 (our own text)
    for table, row in {
        **{table: "jsonb_build_object('name', name, 'description', description, 'tags', tags)" for table in TABLES},
        "revisions": "(replaced || coalesce(unchanged, '{}'))",
    }.items()
)
REFUSE_LONGER = (
    "DO $$ DECLARE longer text; BEGIN"
    f" SELECT string_agg(number || ' ' || source, ', ') INTO longer FROM ("
    f"  SELECT source, count(*) AS number FROM ({_ROWS}) AS rows GROUP BY source ORDER BY source) AS counted;"
    " IF longer IS NOT NULL THEN RAISE EXCEPTION"
    " 'These rows have names, descriptions or tags that the release before cannot hold: %. Shorten the characters and templates; purge the characters of the revisions.',"
    " longer; END IF; END $$"
)

FORWARDS = [*UNDERIVE, *_types(1), _name_key(NAME[1]), BOUNDED_WORDS, *DERIVE]
BACKWARDS = [REFUSE_LONGER, *UNDERIVE, *_types(0), _name_key(NAME[0]), WHOLE_WORDS, *DERIVE]


class _Recorded(MigrationManager):
    async def _run_alter_columns(self, backwards: bool = False) -> None:
        """Nothing: the raw statements change the types. Piccolo would change them after all raw statements."""


async def forwards() -> MigrationManager:
    manager = _Recorded(migration_id=ID, app_name="service", description=DESCRIPTION)

    async def apply() -> None:
        for statement in FORWARDS:
            await DB.run_ddl(statement)

    async def undo() -> None:
        for statement in BACKWARDS:
            await DB.run_ddl(statement)

    manager.add_raw(apply)
    manager.add_raw_backwards(undo)
    for table, name in (("characters", "Character"), ("templates", "Template")):
        lengths: list[dict[str, Any]] = [{"length": length} for length in NAME]
        items: list[dict[str, Any]] = [
            {"base_column": Varchar(length=length, default="", null=False)} for length in TAG
        ]
        for column, (old, new), kind in (("name", lengths, Varchar), ("tags", items, Array)):
            manager.alter_column(
                table_class_name=name,
                tablename=table,
                column_name=column,
                db_column_name=column,
                params=new,
                old_params=old,
                column_class=kind,
                old_column_class=kind,
            )
    return manager
