"""Moves the data of cards to their documents. A trigger deletes a document with the last card that has it."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-26T01:01:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Move the data of cards to documents"

# What earlier migrations have in their functions, and what stands there from now on
SIZES = {
    "use_bytes": {
        "octet_length(NEW.data::text)": "size_of_document(NEW.document)",
        "octet_length(OLD.data::text)": "size_of_document(OLD.document)",
    },
    "free_character": {"octet_length(data::text)": "size_of_document(document)"},
    "free_purged_character": {"octet_length(data::text)": "size_of_document(document)"},
}


def _replace(function: str, parts: dict[str, str]) -> str:
    """Fails if the function is not as expected."""
    change, check = "text", "true"
    for old, new in parts.items():
        change, check = f"replace({change}, '{old}', '{new}')", f"{check} AND strpos(text, '{old}') > 0"
    return (
        f"DO $do$ DECLARE text text := pg_get_functiondef('{function}'::regproc); BEGIN"
        f" ASSERT {check}, 'The function {function} is not as expected.';"
        f" EXECUTE {change};"
        " END $do$"
    )


STEPS: list[tuple[str, str | None]] = [
    ("LOCK TABLE cards IN ACCESS EXCLUSIVE MODE", None),
    (
        "DROP TRIGGER use_bytes ON cards",
        "CREATE TRIGGER use_bytes AFTER INSERT OR UPDATE OF data ON cards FOR EACH ROW EXECUTE FUNCTION use_bytes()",
    ),
    (
        "INSERT INTO card_documents (id, data) SELECT id, data FROM cards",
        "UPDATE cards SET data = card_documents.data FROM card_documents WHERE card_documents.id = document",
    ),
    ("UPDATE cards SET document = id", None),
    (
        "CREATE FUNCTION size_of_document(of uuid) RETURNS bigint LANGUAGE sql STABLE"
        " RETURN (SELECT octet_length(data::text) FROM card_documents WHERE id = of)",
        "DROP FUNCTION size_of_document(uuid)",
    ),
    *(
        (_replace(function, parts), _replace(function, {new: old for old, new in parts.items()}))
        for function, parts in SIZES.items()
    ),
    (
        "CREATE TRIGGER use_bytes AFTER INSERT OR UPDATE OF document ON cards FOR EACH ROW"
        " EXECUTE FUNCTION use_bytes()",
        "DROP TRIGGER use_bytes ON cards",
    ),
    (  # the lock waits for a transaction that does the same for another card; see service/characters/locks.py
        "CREATE FUNCTION delete_unused_document() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM FROM card_documents WHERE id = OLD.document FOR UPDATE;"
        " DELETE FROM card_documents WHERE id = OLD.document"
        "  AND NOT EXISTS (SELECT FROM cards WHERE document = OLD.document);"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION delete_unused_document()",
    ),
    (  # fires after use_bytes, which reads the size of the old document: PostgreSQL fires triggers in order of name
        "CREATE TRIGGER used_document AFTER UPDATE OF document OR DELETE ON cards FOR EACH ROW"
        " EXECUTE FUNCTION delete_unused_document()",
        "DROP TRIGGER used_document ON cards",
    ),
]


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
