"""Folds names, tags and searched texts in the same way on every server, and searches parts of words in scripts that are
written without spaces."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-25T17:03:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Fold names, tags and searched texts in the same way on every server"

LIVING = "WHERE deleted_at IS NULL"
PUBLIC_CHARACTERS = "WHERE visibility = 'public' AND NOT owner_inactive AND deleted_at IS NULL"
PUBLIC_TEMPLATES = "WHERE visibility = 'public' AND NOT owner_inactive"

# Latin, Greek, Cyrillic, Armenian, Georgian, and full-width Latin letters. PostgreSQL's own lower() depends on the
# locale of the database. The final sigma is folded, too. service/text/folding.py has the same letters.
_SCRIPTS = [
    [*range(0xC0, 0x250), *range(0x1E00, 0x1F00), *range(0x2160, 0x2170), *range(0x24B6, 0x24D0), *range(0xFF21, 0xFF3B)],
    [*range(0x370, 0x400), *range(0x1F00, 0x2000)],
    [*range(0x400, 0x530)],
    [*range(0x530, 0x590), *range(0x10A0, 0x1100)],
]


def _translated(letters: list[int]) -> str:
    """Translates the capitals of one script, if there are any: a translation takes long for each letter."""
    capitals = {letter: letter.lower() for letter in map(chr, letters) if letter.lower() != letter}
    capitals = {letter: small for letter, small in capitals.items() if len(small) == 1}
    if 0x3C2 in letters:
        capitals["ς"] = "σ"
    these, small = "".join(capitals), "".join(capitals.values())
    return f" IF folded ~ '[{these}]' THEN folded := translate(folded, '{these}', '{small}'); END IF;"


# Thai, Lao, Tibetan, Burmese, Khmer, Hangul, kana, bopomofo and Han
UNSPACED = (
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035"
    "\u3038-\u303c\u3040-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_CODE = "'z' || translate(to_hex(ascii(letter)), '0123456789', 'ghijklmnop')"  # of one letter, in plain letters

# Each statement, and the statement that undoes it
FOLDING = [
    (
        "CREATE FUNCTION lower_case(words text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS"
        ' $$ DECLARE folded text := lower(words COLLATE "C"); BEGIN'
        " IF octet_length(folded) > length(folded) THEN"
        f" {''.join(map(_translated, _SCRIPTS))}"
        " END IF; RETURN folded; END $$",
        "DROP FUNCTION lower_case(text)",
    ),
    (
        "CREATE OR REPLACE FUNCTION plain(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        " RETURN lower_case(unaccent('unaccent'::regdictionary, normalize(words, NFKC)))",
        "CREATE OR REPLACE FUNCTION plain(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        " RETURN lower(unaccent('unaccent'::regdictionary, words))",
    ),
    (  # of at most as many letters as a name, so that it fits into an index and a cursor
        "CREATE FUNCTION name_key(name text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        " RETURN left(plain(name), 120)",
        "DROP FUNCTION name_key(text)",
    ),
    (
        "CREATE FUNCTION tag_keys(tags text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        " RETURN ARRAY(SELECT lower_case(normalize(tag, NFC)) FROM unnest(tags) AS tag)",
        "DROP FUNCTION tag_keys(text[])",
    ),
]

# In an unspaced script, each two neighbouring letters become one word of plain letters, and each letter another one.
# So any part of a text is found as a phrase, whatever PostgreSQL takes for a word in the locale of the database.
PARTS = [
    (
        "CREATE FUNCTION words_and_parts(words text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        f" RETURN CASE WHEN words !~ '{UNSPACED}' THEN to_tsvector('simple', words) ELSE"
        f" to_tsvector('simple', regexp_replace(words, '{UNSPACED}+', ' ', 'g'))"
        " || to_tsvector('simple', ("
        "  SELECT coalesce(string_agg(code || next, ' ' ORDER BY place), '') || ' ' || string_agg(DISTINCT code, ' ')"
        "  FROM (SELECT place, code, lead(code) OVER (ORDER BY place) AS next FROM ("
        f"   SELECT place, CASE WHEN letter ~ '{UNSPACED}' THEN {_CODE} END AS code"
        "    FROM unnest(string_to_array(words, NULL)) WITH ORDINALITY AS letters (letter, place)"
        "   ) AS coded) AS pairs"
        " )) END",
        "DROP FUNCTION words_and_parts(text)",
    ),
    (  # the words as websearch_to_tsquery reads them, with a phrase for each part in an unspaced script
        "CREATE FUNCTION search_query(searched text) RETURNS tsquery LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        f" RETURN websearch_to_tsquery('simple', CASE WHEN plain(searched) !~ '{UNSPACED}' THEN plain(searched) ELSE ("
        "  SELECT string_agg(CASE WHEN code IS NULL THEN letter ELSE"
        "    CASE WHEN before IS NULL THEN CASE WHEN quoted THEN ' ' WHEN sign THEN '\"' ELSE ' \"' END ELSE '' END"
        "    || CASE WHEN next IS NOT NULL THEN code || next || ' ' WHEN before IS NULL THEN code ELSE '' END"
        "    || CASE WHEN next IS NULL THEN CASE WHEN quoted THEN ' ' ELSE '\" ' END ELSE '' END"
        "   END, '' ORDER BY place)"
        "  FROM (SELECT place, letter, code, lag(code) OVER places AS before, lead(code) OVER places AS next,"
        "    coalesce(lag(letter) OVER places = '-', false) AS sign,"
        "    count(*) FILTER (WHERE letter = '\"') OVER places % 2 = 1 AS quoted"
        f"   FROM (SELECT place, letter, CASE WHEN letter ~ '{UNSPACED}' THEN {_CODE} END AS code"
        "     FROM unnest(string_to_array(plain(searched), NULL)) WITH ORDINALITY AS letters (letter, place)"
        "    ) AS coded WINDOW places AS (ORDER BY place)) AS pairs"
        " ) END)",
        "DROP FUNCTION search_query(text)",
    ),
    (
        "CREATE OR REPLACE FUNCTION character_words(name text, description text, tags text[]) RETURNS tsvector"
        " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN"
        " setweight(words_and_parts(plain(name)), 'A')"
        " || setweight(words_and_parts(plain(array_to_string(tags, ' '))), 'B')"
        " || setweight(words_and_parts(plain(description)), 'C')",
        "CREATE OR REPLACE FUNCTION character_words(name text, description text, tags text[]) RETURNS tsvector"
        " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN"
        " setweight(to_tsvector('simple', plain(name)), 'A')"
        " || setweight(to_tsvector('simple', plain(array_to_string(tags, ' '))), 'B')"
        " || setweight(to_tsvector('simple', plain(description)), 'C')",
    ),
]

_OLD_SEARCH = "search tsvector GENERATED ALWAYS AS (character_words(name, description, tags)) STORED"
_COLUMNS = (
    f"ADD COLUMN {_OLD_SEARCH},"
    " ADD COLUMN tag_keys text[] GENERATED ALWAYS AS (tag_keys(tags)) STORED,"
    ' ADD COLUMN name_key text COLLATE "C" GENERATED ALWAYS AS (name_key(name)) STORED'
)
_DROPPED = "DROP COLUMN search, DROP COLUMN tag_keys, DROP COLUMN name_key"


def _index(name: str, on: str) -> tuple[str, str]:
    return f"CREATE INDEX {name} ON {on}", f"DROP INDEX {name}"


def _replaced(name: str, old: str) -> tuple[str, str]:
    return f"DROP INDEX {name}", f"CREATE INDEX {name} ON {old}"


# Dropped before the functions that they use change; made again after the columns
OLD_INDEXES = [
    _replaced("characters_owned_by_name", f'characters (owner, lower(name) COLLATE "C", id) {LIVING}'),
    _replaced("characters_public_by_name", f'characters (lower(name) COLLATE "C", id) {PUBLIC_CHARACTERS}'),
    _replaced("characters_tags", f"characters USING gin (tags) {LIVING}"),
    _replaced("characters_name_alike", f"characters USING gin (plain(name) gin_trgm_ops) {LIVING}"),
    _replaced("characters_search", f"characters USING gin (search) {LIVING}"),
    ("ALTER TABLE characters DROP COLUMN search", f"ALTER TABLE characters ADD COLUMN {_OLD_SEARCH}"),
]
COLUMNS = [
    (f"ALTER TABLE characters {_COLUMNS}", f"ALTER TABLE characters {_DROPPED}"),
    (f"ALTER TABLE templates {_COLUMNS}", f"ALTER TABLE templates {_DROPPED}"),
]
INDEXES = [
    _index("characters_owned_by_name", f"characters (owner, name_key, id) {LIVING}"),
    _index("characters_public_by_name", f"characters (name_key, id) {PUBLIC_CHARACTERS}"),
    _index("characters_tags", f"characters USING gin (tag_keys) {LIVING}"),
    _index("characters_name_alike", f"characters USING gin (name_key gin_trgm_ops) {LIVING}"),
    _index("characters_search", f"characters USING gin (search) {LIVING}"),
    _index("templates_owned_by_name", "templates (owner, name_key, id)"),
    _index("templates_public_by_name", f"templates (name_key, id) {PUBLIC_TEMPLATES}"),
    _index("templates_tags", "templates USING gin (tag_keys)"),
    _index("templates_name_alike", "templates USING gin (name_key gin_trgm_ops)"),
    _index("templates_search", "templates USING gin (search)"),
]

STEPS = [*OLD_INDEXES, *FOLDING, *PARTS, *COLUMNS, *INDEXES]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
