"""``piccolo migrations``, as typed, on databases of the tests' own."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from piccolo.apps.migrations.commands.new import AutoMigrationManager

from service.audit.actions import Action
from service.database import embedded
from service.piccolo_app import APP_CONFIG
from tests.conftest import database_of_its_own
from tests.support.servers import (
    Service,
    directory_of_its_own,
    execute,
    free_port,
    piccolo,
    processes_of,
    service_of_its_own,
    wait_until,
    worker_of_its_own,
)

CATALOG = """
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, character_maximum_length, is_nullable,
           column_default, is_generated, generation_expression)
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'migration'
    UNION ALL
    SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> to_regclass('migration')
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'migration'
    UNION ALL
    SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1, 2, 3
"""


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async def fetch() -> list[tuple[Any, ...]]:
        database = await asyncpg.connect(dsn)
        try:
            return [tuple(row) for row in await database.fetch(query)]
        finally:
            await database.close()

    return asyncio.run(fetch())


def run(dsn: str, script: str) -> None:
    asyncio.run(execute(dsn, script))


def recorded(dsn: str) -> list[tuple[Any, ...]]:
    return rows(dsn, "SELECT app_name, name FROM migration ORDER BY 1, 2")


def works(dsn: str, *arguments: str) -> str:
    """The output of a ``piccolo`` command that must succeed."""
    done = piccolo(*arguments, DATABASE_URL=dsn)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def empty_database(database: None) -> Iterator[str]:
    with database_of_its_own() as address:
        yield address


@pytest.fixture(scope="module")
def template(database: None) -> Iterator[str]:
    with database_of_its_own() as address:
        works(address, "migrations", "forwards", "all")
        yield urlsplit(address).path.removeprefix("/")


@pytest.fixture
def migrated_database(template: str) -> Iterator[str]:
    with database_of_its_own(template) as address:
        yield address


async def test_tables_and_migrations_agree() -> None:
    statements = await AutoMigrationManager().get_alter_statements(app_config=APP_CONFIG)
    assert [text for part in statements for text in part.statements] == []


def test_forwards_backwards_and_forwards_again_end_where_they_were(empty_database: str) -> None:
    works(empty_database, "migrations", "forwards", "all")
    before = rows(empty_database, CATALOG)
    assert {"characters", "users", "templates"} <= {name.partition(".")[0] for _, name, _ in before}
    works(empty_database, "migrations", "backwards", "all", "--auto_agree")
    assert rows(empty_database, CATALOG) == []
    assert recorded(empty_database) == []
    works(empty_database, "migrations", "forwards", "all")
    assert rows(empty_database, CATALOG) == before


# Alice has a character with a portrait, an earlier one in a revision, and a card with a file; one in the trash; and a
# purged one. Bob has none any more.
SOME_ROWS = """
    INSERT INTO files (name, size, stored_at) VALUES ('now', 100, now()), ('before', 20, now()), ('asset', 3, now());
    INSERT INTO users (id, username, links, created_at, updated_at, must_verify, status, display_name, bio, version)
    SELECT md5(name)::uuid, name, '[]', now(), now(), false, 'active', '', '', 1
    FROM unnest('{alice,bob}'::text[]) AS name;
    INSERT INTO characters (id, owner, name, description, tags, visibility, attributes, extensions, portrait,
     deleted_at, ended, owner_inactive, written_in, version, created_at, updated_at)
    SELECT md5(name)::uuid, md5('alice')::uuid, name, '', '{}', 'private', '{}', '{}',
     CASE name WHEN 'mira' THEN 'now' END, CASE WHEN name <> 'mira' THEN now() END, name = 'purged', false, 0, 1, now(),
     now() FROM unnest('{mira,trashed,purged}'::text[]) AS name;
    INSERT INTO revisions (id, character, number, replaced, created_at)
    VALUES (gen_random_uuid(), md5('mira')::uuid, 2, '{"portrait": "before"}', now()),
     (gen_random_uuid(), md5('mira')::uuid, 3, '{"name": "Mira"}', now());
    INSERT INTO card_documents (id, data) VALUES (md5('document')::uuid, '{"a": 1}');
    INSERT INTO cards (id, character, spec, spec_version, document, created_at, updated_at)
    VALUES (md5('card')::uuid, md5('mira')::uuid, 'v3', '3.0', md5('document')::uuid, now(), now());
    INSERT INTO card_assets (card, path, file) VALUES (md5('card')::uuid, 'a.txt', 'asset');
    INSERT INTO user_usage ("user", characters, stored_bytes) VALUES (md5('bob')::uuid, 7, 7)
"""


OLDEST = "2026-11-25T13:00:00:000000"  # of the service
OLDEST_OF_OPERATORS = "2019-11-14T21:52:21"
AN_OPERATOR = """
    INSERT INTO piccolo_user (username, password, email, active, admin, superuser)
    VALUES ('ada', '', '', true, true, false)
"""


@pytest.mark.parametrize("undo", ["all", "service all", "user all", "service 1"])
def test_people_are_deleted_only_by_the_id_of_the_oldest_migration(migrated_database: str, undo: str) -> None:
    if undo == "service 1":  # it leads to the oldest when no other is left
        second = works(
            migrated_database, "migrations", "backwards", "service", "2026-11-25T13:10:00:000000", "--auto_agree"
        )
        assert "[backwards]" in second
        run(
            migrated_database,
            "INSERT INTO users (id, username, created_at, updated_at) VALUES (md5('a')::uuid, 'a', now(), now())",
        )
    else:
        run(migrated_database, SOME_ROWS)
    run(migrated_database, AN_OPERATOR)
    before = rows(migrated_database, CATALOG), recorded(migrated_database)
    people = {"user": "1 operator", "service": "1 user" if undo == "service 1" else "2 users"}
    commands = {
        "user": f"piccolo migrations backwards user {OLDEST_OF_OPERATORS}",
        "service": f"piccolo migrations backwards service {OLDEST}",
    }
    apps = ["user", "service"] if undo == "all" else [undo.partition(" ")[0]]
    done = piccolo("migrations", "backwards", *undo.split(), "--auto_agree", DATABASE_URL=migrated_database)
    assert done.returncode == 1, done.stdout
    assert done.stderr == (
        f"Nothing was undone, as it would delete {' and '.join(people[app] for app in apps)} with all that is theirs:"
        f" to do it on purpose, name the oldest migration ({', '.join(commands[app] for app in apps)}).\n"
    )
    assert (rows(migrated_database, CATALOG), recorded(migrated_database)) == before
    for app in apps:
        works(migrated_database, *commands[app].split()[1:], "--auto_agree")
        assert app not in {of for of, _ in recorded(migrated_database)}


@pytest.mark.slow
def test_usage_is_counted_anew_when_it_is_undone_and_redone_with_rows(empty_database: str) -> None:
    counted = 'SELECT username, characters, stored_bytes FROM user_usage JOIN users ON users.id = "user" ORDER BY 1'
    works(empty_database, "migrations", "forwards", "all")
    run(empty_database, SOME_ROWS)
    triggered = rows(empty_database, counted)
    assert triggered == [("alice", 2, 100 + 20 + 3 + len('{"a": 1}')), ("bob", 7, 7)]
    for undone in ("2026-11-25T17:02:00:000000", "2026-11-25T13:10:00:000000"):
        works(empty_database, "migrations", "backwards", "service", undone, "--auto_agree")
        works(empty_database, "migrations", "forwards", "all")
        assert {name: numbers for name, *numbers in rows(empty_database, counted)}["alice"] == [2, 131]
    assert rows(empty_database, counted) == triggered[:1]


@pytest.mark.slow
def test_the_data_of_cards_is_kept_backwards_and_forwards(migrated_database: str) -> None:
    shared = """
        INSERT INTO cards (id, character, spec, spec_version, document, created_at, updated_at)
        SELECT md5('copy')::uuid, md5('trashed')::uuid, spec, spec_version, document, now(), now() FROM cards;
    """
    run(migrated_database, SOME_ROWS)
    run(migrated_database, shared)
    used = rows(migrated_database, "SELECT stored_bytes FROM user_usage ORDER BY 1")
    works(migrated_database, "migrations", "backwards", "service", "2026-11-26T01:00:00:000000", "--auto_agree")
    assert rows(migrated_database, "SELECT data::text FROM cards") == [('{"a": 1}',)] * 2
    run(migrated_database, "UPDATE cards SET data = '{\"a\": 12}' WHERE character = md5('mira')::uuid")
    works(migrated_database, "migrations", "forwards", "all")
    read = "SELECT data::text FROM cards JOIN card_documents ON card_documents.id = document ORDER BY 1"
    assert rows(migrated_database, read) == [('{"a": 12}',), ('{"a": 1}',)]
    now_used = rows(migrated_database, "SELECT stored_bytes FROM user_usage ORDER BY 1")
    assert now_used == [used[0], (used[1][0] + 1,)]
    run(migrated_database, "DELETE FROM characters")
    assert rows(migrated_database, "SELECT FROM card_documents") == []
    assert rows(migrated_database, "SELECT stored_bytes FROM user_usage ORDER BY 1") == [(0,), used[0]]


@pytest.mark.slow
def test_the_audit_log_tells_owners_also_after_it_was_undone(migrated_database: str) -> None:
    """An entry is about an account or what it owns. One of the characters is gone."""
    alice, mira = (f"md5('{name}')::uuid" for name in ("alice", "mira"))
    entries = f"""
        INSERT INTO templates (id, owner, name, visibility) VALUES ({mira}, {alice}, 'Rules', 'public');
        INSERT INTO relationships (id, source, target, type, inverse_type)
        VALUES ({mira}, {mira}, md5('trashed')::uuid, 'friend_of', 'friend_of');
        INSERT INTO audit_log (id, action, kind, "row", operator, detail)
        SELECT gen_random_uuid(), 'verb', kind, id, operator, '{{"reason": "Spam."}}' FROM (VALUES
        ('user', {alice}, 'olga'), ('character', {mira}, 'olga'), ('template', {mira}, 'olga'),
        ('relationship', {mira}, 'olga'), ('character', md5('gone')::uuid, 'olga'), ('character', {mira}, NULL),
        ('service', NULL, 'olga'), ('operator', NULL, 'olga')) AS entries (kind, id, operator)
    """
    undo = ("migrations", "backwards", "service", "2026-11-27T05:20:00:000000", "--auto_agree")
    read = f"SELECT kind, operator, owner = {alice}, detail::text FROM audit_log ORDER BY 1, 2, 3"
    works(migrated_database, *undo)
    run(migrated_database, SOME_ROWS)
    run(migrated_database, entries)
    works(migrated_database, "migrations", "forwards", "all")
    told = rows(migrated_database, read)
    assert [kind for kind, _, is_hers, _ in told if is_hers] == ["character", "relationship", "template", "user"]
    assert {detail for *_, detail in told} == {'{"reason": "Spam."}'}
    works(migrated_database, *undo)
    run(migrated_database, "DELETE FROM relationships; DELETE FROM templates; DELETE FROM characters")
    works(migrated_database, "migrations", "forwards", "all")
    assert rows(migrated_database, read) == told
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        run(migrated_database, "UPDATE audit_log SET kind = 'user'")


# By the name that the release before records, with the kind of the row: the name since
RENAMED = {
    ("create", "api_key"): "create_api_key",
    ("revoke", "api_key"): "revoke_api_key",
    ("leave", "user"): "delete_user",
    ("delete", "user"): "delete_user",
    ("delete", "relationship"): "delete_relationship",
    ("purge", "user"): "purge_user",
    ("trash", "character"): "trash_character",
    ("create", "template"): "create_template_version",
    ("publish", "template"): "publish_template_version",
    ("retire", "template"): "retire_template",
    ("disable", "operator"): "disable_operator",
    ("run", "service"): "run_task",
    ("sign_in", "session"): "sign_in",
    ("refuse_password", "user"): "refuse_password",
    ("change_visibility", "template"): "change_visibility",
    ("release_email", "user"): "release_email",
}


@pytest.mark.slow
def test_actions_get_their_names_also_those_of_the_release_before(migrated_database: str) -> None:
    undo = ("migrations", "backwards", "service", "2026-11-27T05:30:00:000000", "--auto_agree")
    read = "SELECT action, kind FROM audit_log ORDER BY 1, 2"
    record = "INSERT INTO audit_log (id, action, kind, member, operator, detail) VALUES " + ", ".join(
        f"(gen_random_uuid(), '{action}', '{kind}', {'gen_random_uuid()' if action == 'leave' else 'NULL'}, 'olga',"
        " '{\"number\": 2}')"
        for action, kind in RENAMED
    )
    works(migrated_database, *undo)
    run(migrated_database, record)
    assert rows(migrated_database, read) == sorted(RENAMED)
    works(migrated_database, "migrations", "forwards", "all")
    renamed = sorted((name, kind) for (_, kind), name in RENAMED.items())
    assert rows(migrated_database, read) == renamed
    assert {name for name, _ in renamed} <= set(Action)
    run(migrated_database, record)
    assert rows(migrated_database, read) == sorted(renamed * 2)
    works(migrated_database, *undo)
    assert rows(migrated_database, read) == sorted([*RENAMED] * 2)


@pytest.mark.slow
def test_relationships_of_the_release_before_count_as_created_from_their_source(migrated_database: str) -> None:
    made = """
        INSERT INTO relationships (id, source, target, type, inverse_type, source_attitude)
        VALUES (md5('row')::uuid, md5('mira')::uuid, md5('trashed')::uuid, 'mentor_of', 'student_of', 10)
    """
    read = "SELECT type, source_attitude, created_from_target FROM relationships"
    run(migrated_database, SOME_ROWS)
    run(migrated_database, made)  # as the release before does beside this one
    assert rows(migrated_database, read) == [("mentor_of", 10, False)]
    run(migrated_database, "UPDATE relationships SET created_from_target = true")
    works(migrated_database, "migrations", "backwards", "service", "2026-11-27T06:00:00:000000", "--auto_agree")
    works(migrated_database, "migrations", "forwards", "all")
    assert rows(migrated_database, read) == [("mentor_of", 10, False)]


@pytest.mark.slow
def test_texts_are_searched_by_the_same_words_as_before_they_were_made_faster(migrated_database: str) -> None:
    words = """
        SELECT plain(text), character_words(text, text, ARRAY[text, 'X']), name_key(text) FROM (
            SELECT chr(code) AS text FROM generate_series(1, 66000) AS code WHERE code NOT BETWEEN 55296 AND 57343
            UNION ALL SELECT * FROM
             unnest(ARRAY['', 'Mira "Dörte" OF the-Coast', 'ＡＢ ﬁn İI ΑΣ', 'Мира 夜の女王 x한국어 ไทย'])
        ) AS texts
    """
    now = rows(migrated_database, words)
    works(migrated_database, "migrations", "backwards", "service", "2026-11-27T12:50:00:000000", "--auto_agree")
    assert rows(migrated_database, words) == now


@pytest.mark.slow
def test_a_worker_in_front_of_its_migrations_says_so_and_serves_after_them(empty_database: str) -> None:
    with worker_of_its_own(DATABASE_URL=empty_database) as worker, worker.start().client() as stranger:
        assert "Migrations are pending: 2026-" in worker.output
        assert stranger.get("/health/ready").status_code == 503
        refused = stranger.get("/v1/characters")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "lacks migrations" in refused.json()["detail"]
        works(empty_database, "migrations", "forwards", "all")
        assert stranger.get("/health/ready").status_code == 200
        assert stranger.get("/v1/characters").json()["items"] == []


@pytest.mark.slow
def test_longer_names_and_tags_are_not_cut_backwards(migrated_database: str) -> None:
    read = "SELECT name, description, tags, name_key, tag_keys, search::text FROM characters ORDER BY id"
    undo = ("migrations", "backwards", "service", "2026-11-25T17:07:00:000000", "--auto_agree")
    run(migrated_database, SOME_ROWS)
    run(migrated_database, "UPDATE characters SET name = 'Ä 漢字', tags = '{Noir,雨}', description = 'A 探偵.'")
    before = rows(migrated_database, read)
    for longer, shorter in (
        ("characters SET name = repeat('n', 121)", "characters SET name = 'Ä 漢字'"),
        ("characters SET description = repeat('d', 10001)", "characters SET description = 'A 探偵.'"),
        ("characters SET tags = ARRAY[repeat('t', 51)]", "characters SET tags = '{Noir,雨}'"),
        ("revisions SET unchanged = jsonb_build_object('name', repeat('n', 121))", "revisions SET unchanged = NULL"),
    ):
        run(migrated_database, f"UPDATE {longer}")
        kept = rows(migrated_database, read)
        done = piccolo(*undo, DATABASE_URL=migrated_database)
        assert done.returncode == 1
        assert re.search(rf"cannot hold: \d+ {longer.split()[0]}\. Shorten the", done.stdout)
        assert rows(migrated_database, read) == kept
        run(migrated_database, f"UPDATE {shorter}")
    works(migrated_database, *undo)
    assert rows(migrated_database, read) == before
    works(migrated_database, "migrations", "forwards", "all")
    assert rows(migrated_database, read) == before


def test_forwards_works_bare_and_twice_and_check_tells_of_it(empty_database: str) -> None:
    works(empty_database, "migrations", "forwards")
    first = recorded(empty_database)
    assert {app for app, _ in first} == {"service", "user"}
    works(empty_database, "migrations", "forwards")
    assert recorded(empty_database) == first
    told = works(empty_database, "migrations", "check")
    assert [name for _, name in first if name not in told] == []


def test_three_at_once_run_each_migration_once(empty_database: str) -> None:
    with ThreadPoolExecutor(3) as three:
        done = list(three.map(lambda _: piccolo("migrations", "forwards", DATABASE_URL=empty_database), range(3)))
    assert [one.returncode for one in done] == [0, 0, 0], [one.stdout + one.stderr for one in done]
    names = recorded(empty_database)
    assert names
    assert sorted(set(names)) == names


def test_an_unreachable_database_fails_with_an_exit_status() -> None:
    done = piccolo("migrations", "forwards", DATABASE_URL=f"postgresql://service@127.0.0.1:{free_port()}/service")
    assert done.returncode == 1
    assert "Connection refused" in done.stdout + done.stderr


def test_a_failed_migration_exits_non_zero_and_changes_nothing(empty_database: str) -> None:
    rows(empty_database, "CREATE TABLE relationships ()")
    before = rows(empty_database, CATALOG)
    done = piccolo("migrations", "forwards", DATABASE_URL=empty_database)
    assert done.returncode == 1
    assert 'relation "relationships" already exists' in done.stdout + done.stderr
    assert rows(empty_database, CATALOG) == before
    assert rows(empty_database, "SELECT to_regclass('migration')") == [(None,)]


def test_a_crash_before_the_record_of_a_migration_changes_nothing(empty_database: str) -> None:
    rows(
        empty_database,
        "CREATE TABLE migration (id serial PRIMARY KEY, name varchar, app_name varchar, ran_on timestamp)",
    )
    crash = "BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END"
    rows(empty_database, f"CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $${crash}$$")
    rows(empty_database, "CREATE TRIGGER crash BEFORE INSERT ON migration EXECUTE FUNCTION crash()")
    before = rows(empty_database, CATALOG)
    done = piccolo("migrations", "forwards", DATABASE_URL=empty_database)
    assert done.returncode == 1, done.stdout + done.stderr
    assert rows(empty_database, CATALOG) == before
    rows(empty_database, "DROP FUNCTION crash CASCADE")
    works(empty_database, "migrations", "forwards")


def test_forwards_accepts_a_newer_database(migrated_database: str) -> None:
    rows(migrated_database, "INSERT INTO migration (name, app_name) VALUES ('2030-01-01T00:00:00:000000', 'service')")
    works(migrated_database, "migrations", "forwards")


def test_forwards_refuses_a_database_of_another_history(migrated_database: str) -> None:
    newest = "(SELECT max(name) FROM migration WHERE app_name = 'service')"
    rows(migrated_database, f"UPDATE migration SET name = '2030-01-01T00:00:00:000000' WHERE name = {newest}")
    before = recorded(migrated_database)
    done = piccolo("migrations", "forwards", DATABASE_URL=migrated_database)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "The database has migrations that this release does not have (2030-01-01T00:00:00:000000), so nothing was "
        "changed: run the release that has them, or set DATABASE_URL to another database."
    )
    assert recorded(migrated_database) == before


def test_a_development_database_of_another_history_is_refused_by_the_directory_to_delete() -> None:
    with service_of_its_own() as service:
        done = piccolo("migrations", "forwards", DATA_DIR=str(service.data_dir))
        assert done.returncode == 0, done.stdout + done.stderr
        share = embedded.start(service.data_dir)
        rows(share.dsn, "UPDATE migration SET name = '2020-01-01T00:00:00:000000' WHERE app_name = 'service'")
        share.stop()
        refusal = (
            "The development database was created by another version of the service and cannot be migrated: "
            f"delete {service.data_dir} to start with an empty one."
        )
        service.launch()
        assert service.wait() == 1
        assert refusal in service.output.splitlines()
        assert "Traceback" not in service.output
        done = piccolo("migrations", "forwards", DATA_DIR=str(service.data_dir))
        assert (done.returncode, refusal in done.stderr.splitlines()) == (1, True), done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_service_is_ready_once_its_migrations_ran(empty_database: str) -> None:
    production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}
    with service_of_its_own(DATABASE_URL=empty_database, **production) as service, service.client() as client:
        service.start()
        assert "Migrations are pending: run `piccolo migrations forwards`." in service.output
        waiting = client.get("/health/ready")
        assert waiting.status_code == 503
        assert waiting.json()["checks"] == {
            "database": "ok",
            "migrations": "pending",
            "writes": "ok",
            "privileges": "ok",
            "feed": "unknown",
            "storage": "ok",
        }
        works(empty_database, "migrations", "forwards")
        ready = client.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["checks"] == dict.fromkeys(
            ["database", "migrations", "writes", "privileges", "feed", "storage"], "ok"
        )


def test_commands_work_beside_a_running_service(running_service: Service) -> None:
    done = piccolo("service", "seed", DATA_DIR=str(running_service.data_dir))
    assert (done.returncode, done.stdout.strip()) == (0, "Seeds: nothing to insert."), done.stderr
    with running_service.client() as client:
        assert client.get("/health/ready").status_code == 200


def test_commands_start_and_stop_the_embedded_database() -> None:
    with directory_of_its_own() as directory:
        data_dir = directory / "data"
        done = piccolo("migrations", "forwards", DATA_DIR=str(data_dir))
        assert done.returncode == 0, done.stdout + done.stderr
        assert (data_dir / "postgres" / "PG_VERSION").exists()
        wait_until(lambda: not processes_of(data_dir), "PostgreSQL did not end", patience=10)
