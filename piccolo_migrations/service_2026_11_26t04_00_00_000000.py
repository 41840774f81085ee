"""Spells names in Cyrillic, Greek, Hebrew, Arabic and Devanagari in plain letters, so that pg_trgm finds similar ones
whatever the locale of the database."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-26T04:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Find similar names in scripts other than Latin"

LIVING = "WHERE deleted_at IS NULL"

# One plain letter or digit for each letter, roughly as it sounds. Within a script, only letters that are often mistaken
# for each other have the same one.
_GREEK_AND_CYRILLIC = {
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєґў": "abvgdeejzi5klmnoprstufhc4w78y9301iiegu",
    "αβγδεζηθικλμνξοπρσςτυφχψω": "abgdez3hiklmnxoprsstufc4w",
}
_OTHERS = {
    "אבגדהוזחטיכךלמםנןסעפףצץקרשת": "abgdhvzc8ykklmmnns3ppxxqrwt",
    "اأإآٱبتثجحخدذرزسشصضطظعغفقكلمنهويىةئؤءپچژگکی": "aaaaabt8j7xd0rzsw96243gfqklmnhvyyhyv1pc5gky",
    "कखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह": "k1g2nc3j4n5678nt9d0npfbvmyrlwzxsh",
    "अआाइईिीउऊुूऋृएऐेैओऔोौ": "aaaiiiiuuuurreeeeoooo",
}
# Points of vowels in Hebrew and Arabic, the lengthening of Arabic, what joins, dots or nasalises in Devanagari, joiners
_LEFT_OUT = [*range(0x5B0, 0x5BE), 0x5C1, 0x5C2, 0x5C7, 0x640, *range(0x64B, 0x653), 0x670, 0x900, 0x901, 0x902, 0x903]
_LEFT_OUT += [0x93C, 0x94D, 0x200C, 0x200D]


def _translated(spelt: dict[str, str], left_out: str = "") -> str:
    return f"translate(words, '{''.join(spelt)}{left_out}', '{''.join(spelt.values())}')"


# Each statement, and the statement that undoes it
STEPS = [
    (  # a translation takes long for each letter that it has, so other names have none
        "CREATE FUNCTION spelt(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN"
        " CASE WHEN octet_length(words) = length(words) THEN words"
        " WHEN words ~ '[\u0590-\u06ff\u0900-\u097f]'"
        f" THEN {_translated(_OTHERS | _GREEK_AND_CYRILLIC, ''.join(map(chr, _LEFT_OUT)))}"
        f" WHEN words ~ '[\u0370-\u04ff]' THEN {_translated(_GREEK_AND_CYRILLIC)}"
        " ELSE words END",
        "DROP FUNCTION spelt(text)",
    ),
    *(
        step
        for name, table, living in (
            ("characters_name_alike", "characters", f" {LIVING}"),
            ("templates_name_alike", "templates", ""),
        )
        for step in (
            (f"DROP INDEX {name}", f"CREATE INDEX {name} ON {table} USING gin (name_key gin_trgm_ops){living}"),
            (f"CREATE INDEX {name} ON {table} USING gin (spelt(name_key) gin_trgm_ops){living}", f"DROP INDEX {name}"),
        )
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
