"""What the lists of the admin site read of large tables: a bounded part, by an index."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import pytest
from piccolo_api.crud.endpoints import Params

from service.admin.large_lists import MOST_COUNTED, BoundedList
from service.admin.lists import TABLES
from tests.support.servers import piccolo

pytestmark = pytest.mark.slow

ROWS = 40_000
FILL = f"""
SET session_replication_role = replica;
CREATE FUNCTION id_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN lpad(to_hex(n), 32, '0')::uuid;
INSERT INTO users (id, username, email, display_name, status, deleted_at, created_at)
SELECT id_of(n), 'member-' || n, 'member' || n || '@example.org', initcap(substr(md5(n::text), 1, 7)),
    CASE WHEN n % 1000 = 7 THEN 'suspended' ELSE 'active' END, CASE WHEN n % 1000 = 3 THEN now() END,
    timestamptz '2026-01-01Z' + n * interval '1 minute'
FROM generate_series(1, {ROWS}) AS n;
INSERT INTO templates (id, owner, name, visibility) SELECT id_of(n), id_of(n), 'Template ' || n, 'public'
FROM generate_series(1, 500) AS n;
INSERT INTO template_versions (id, template, number, published_at) SELECT id, id, 1, now() FROM templates;
INSERT INTO characters (id, owner, name, description, tags, visibility, template, template_version, deleted_at)
SELECT id_of(n), id_of(1 + n * 7919 % {ROWS}), initcap(md5(n::text)), repeat('Some words that everybody uses. ', 10),
    ARRAY['tag-' || n % 400], CASE WHEN n % 2 = 0 THEN 'public' ELSE 'private' END, id_of(1 + n % 500), 1,
    CASE WHEN n % 200 = 1 THEN now() END
FROM generate_series(1, {ROWS}) AS n;
INSERT INTO revisions (id, character, number)
SELECT id_of(n), id_of(1 + n % 8000), 2 + n / 8000 FROM generate_series(1, {ROWS}) AS n;
INSERT INTO audit_log (id, created_at, action, kind, "row", member, owner, operator, address)
SELECT id_of(n), timestamptz '2026-01-01Z' + n * interval '1 minute',
    CASE WHEN n % 1000 = 5 THEN 'suspend_user' ELSE 'sign_in' END, 'user', id_of(n)::text,
    CASE WHEN n % 1000 <> 5 THEN id_of(n) END, CASE WHEN n % 1000 = 5 THEN id_of(n % 7000) END,
    CASE WHEN n % 1000 = 5 THEN 'olga' END, '192.0.2.' || n % 200
FROM generate_series(1, {ROWS}) AS n;
"""
ID = "00000000-0000-0000-0000-000000000007"
LATE = f"00000000-0000-0000-0000-{ROWS - 50:012x}"
# By table: filters that few rows match
FEW = {
    "characters": [
        f"owner={ID}", f"template={ID}", "tags=tag-7", "tags=nothing", "name=45c48cce2e", "name=nothing",
        "deleted_at__operator=not_null&ended=false", f"id={LATE}&id__operator=gte",
    ],
    "users": [
        "username=member-7777", "username=nobody", "display_name=45c48", "email=member7777@",
        "status=suspended&deleted_at__operator=is_null", "deleted_at__operator=not_null",
        f"id={LATE}&id__operator=gte",
    ],
    "revisions": [f"character={ID}"],
    "audit_log": [
        "action=suspend_user", "action=retire_template", f"row={ID}", f"member={ID}", f"owner={ID}",
        "operator__operator=not_null", "operator=olga", "address=192.0.2.7", "address=203.0.113.1",
    ],
}  # fmt: skip
MANY = {
    "characters": ["", "visibility=public", "deleted_at__operator=is_null"],
    "users": ["", "status=active", "username=member"],
    "revisions": [""],
    "audit_log": ["", "action=sign_in"],
}
LISTS = {config.table_class._meta.tablename: BoundedList(config) for config in TABLES}


@pytest.fixture(scope="module")
async def connection(fresh_database: str) -> AsyncIterator[asyncpg.Connection]:
    done = piccolo("migrations", "forwards", "all", DATABASE_URL=fresh_database)
    assert done.returncode == 0, done.stdout
    operator = fresh_database.replace("service@", "postgres@")  # a superuser may leave the triggers out
    connection = await asyncpg.connect(operator, server_settings={"timezone": "UTC"})
    await connection.execute(FILL)
    await connection.execute("VACUUM ANALYZE")
    yield connection
    await connection.close()


def of_each(filters: dict[str, list[str]]) -> Any:
    return pytest.mark.parametrize(("table", "query"), [(table, each) for table in filters for each in filters[table]])


def params_of(table: str, query: str) -> Params:
    return LISTS[table]._split_params(dict(parse_qsl(query)))


async def rows_read(connection: asyncpg.Connection, query: Any) -> int:
    text, arguments = query.compile_string()
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
    return _rows(json.loads(plan)[0]["Plan"])


def _rows(node: Any) -> int:
    inner = sum(map(_rows, node.get("Plans", ())))
    if "Relation Name" not in node:
        return inner
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return inner + round(node["Actual Loops"] * (node["Actual Rows"] + sum(node.get(name, 0) for name in removed)))


@of_each(FEW)
async def test_a_rare_match_is_counted_and_found_by_an_index(
    connection: asyncpg.Connection, table: str, query: str
) -> None:
    crud, params = LISTS[table], params_of(table, query)
    assert await rows_read(connection, crud.counting(params, MOST_COUNTED + 1)) <= 300
    page = crud._apply_filters(crud.table.select(crud.table._meta.primary_key), params)
    page = page.order_by(crud._by_key(), ascending=False).limit(15)
    assert await rows_read(connection, page.querystrings[0]) <= 300


@of_each(MANY)
async def test_a_common_match_is_counted_up_to_a_bound_and_found_in_the_order_of_the_list(
    connection: asyncpg.Connection, table: str, query: str
) -> None:
    crud, params = LISTS[table], params_of(table, query)
    assert await rows_read(connection, crud.counting(params, MOST_COUNTED + 1)) <= 3 * MOST_COUNTED
    page = crud._apply_filters(crud.table.select(crud.table._meta.primary_key), params)
    page = page.order_by(crud.table._meta.primary_key, ascending=False).limit(15)
    assert await rows_read(connection, page.querystrings[0]) <= 100
