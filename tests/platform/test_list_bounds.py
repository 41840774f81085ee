"""The cost of a page among 100,000 characters, in rows and buffers, with custom and with generic plans."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest

from service.characters.attribute_parameters import read_attribute_filters
from service.characters.queries import CHARACTERS
from service.characters.schemas import CharacterQuery
from service.lists.listing import _sort
from service.lists.statements import MAX_COUNTED, MAX_READ_PER_ROW, MAX_SORTED, Shape
from tests.support.servers import piccolo

pytestmark = pytest.mark.slow

LIMIT = 20
MEMBERS = 1_001  # PostgreSQL may read a table this small as a whole
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
HEAVY = UUID(int=1)
HEAVYS = 20_000
LIGHT = UUID(int=7)
LIGHTS = 80
COMMON_TEMPLATE, RARE_TEMPLATE = UUID(int=1), UUID(int=2)

FILL = """
ALTER TABLE characters DISABLE TRIGGER use_character;

INSERT INTO users (id, username)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'member-' || n FROM generate_series(1, 1000) AS n;

INSERT INTO templates (id, owner, name, visibility)
SELECT lpad(to_hex(n), 32, '0')::uuid, lpad('1', 32, '0')::uuid, 'Template ' || n, 'public'
FROM generate_series(1, 50) AS n;
INSERT INTO template_versions (id, template, number, published_at) SELECT id, id, 1, now() FROM templates;

SELECT setseed(0.5);
INSERT INTO characters (id, owner, name, description, style, tags, visibility, attributes, template, template_version,
                        created_at, updated_at)
SELECT
    lpad(to_hex(n), 32, '0')::uuid,
    lpad(to_hex(CASE WHEN n % 5 = 0 THEN 1 ELSE 2 + n % 999 END), 32, '0')::uuid,
    CASE WHEN n % 20000 = 11 THEN 'Quetzalcoatl' ELSE initcap(substr(md5(n::text), 1, 6)) END || ' of ' || n % 500,
    CASE WHEN n % 2 = 0 THEN 'A dragon rider, 一位龙骑士. ' ELSE '' END
        || CASE WHEN n % 20000 = 12 THEN 'Xylophonist, 凤凰城. ' ELSE '' END
        || repeat('Some words that everybody uses. ', 5),
    CASE WHEN n % 20000 = 13 THEN 'vintage' WHEN n % 5 < 3 THEN 'fantasy' WHEN n % 5 = 3 THEN 'anime' END,
    CASE WHEN n % 20000 = 14 THEN '{rare}'::varchar[] WHEN n % 2 = 0 THEN '{common}' ELSE '{}' END
        || ARRAY['tag-' || n % 200]::varchar[],
    CASE n % 10 WHEN 8 THEN 'unlisted' WHEN 9 THEN 'private' ELSE 'public' END,
    jsonb_build_object('level', n % 100, 'race', CASE n % 2 WHEN 0 THEN 'elf' ELSE 'dwarf' END)
        || CASE WHEN n % 20000 = 15 THEN '{"title": "king"}' ELSE '{}' END::jsonb
        || CASE WHEN n % 2 = 0 THEN '{"motto": "ever on"}' ELSE '{}' END::jsonb
        || jsonb_build_object('stats', jsonb_build_object('race', CASE n % 2 WHEN 0 THEN 'elf' ELSE 'dwarf' END)
            || CASE WHEN n % 20000 = 15 THEN '{"title": "king"}' ELSE '{}' END::jsonb),
    CASE WHEN n % 20000 = 16 THEN lpad('2', 32, '0')::uuid WHEN n % 3 = 0 THEN lpad('1', 32, '0')::uuid END,
    CASE WHEN n % 20000 = 16 OR n % 3 = 0 THEN 1 END,
    timestamptz '2026-01-01Z' + n * interval '1 minute',
    timestamptz '2026-01-01Z' + n * interval '1 minute' + random() * interval '100 days'
FROM generate_series(1, 100000) AS n;
"""


class Cost(NamedTuple):
    """Of one statement: characters read, users read for them, and buffers."""

    characters: int
    members: int
    buffers: int


BOTH, HEAVY_BOTH, STRANGER, HEAVY_OWN, LIGHT_OWN, NAMED = "both", "heavy", "stranger", "heavy's", "light's", "named"
WHOSE: dict[str, tuple[tuple[str, ...], UUID | None]] = {
    BOTH: (("mine", "others"), LIGHT),
    HEAVY_BOTH: (("mine", "others"), HEAVY),
    STRANGER: (("others",), None),
    HEAVY_OWN: (("mine",), HEAVY),
    LIGHT_OWN: (("mine",), LIGHT),
    NAMED: (("owner",), HEAVY),
}
MIDDLE = UUID(int=50_000)
DEEP: dict[str, tuple[Any, ...]] = {
    "created_at": (BEGINNING + timedelta(minutes=50_000), MIDDLE),
    "updated_at": (BEGINNING + timedelta(minutes=50_000, days=50), MIDDLE),
    "name": ("8", MIDDLE),
}


def opened(parameters: dict[str, str]) -> dict[str, Any]:
    return {"open": read_attribute_filters(parameters)[0]}


# By name: a filter that about half of the characters match, and one that five match.
COMMON_AND_RARE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tags": ({"tags": ("common",)}, {"tags": ("rare",)}),
    "tags.any": ({"tags_any": ("common", "x")}, {"tags_any": ("rare", "x")}),
    "style": ({"style": "fantasy"}, {"style": "vintage"}),
    "style.in": ({"style_in": ("fantasy", "minimalist")}, {"style_in": ("vintage", "minimalist")}),
    "template": ({"template": COMMON_TEMPLATE}, {"template": RARE_TEMPLATE}),
    "equal": (opened({"attributes.race": "elf"}), opened({"attributes.title": "king"})),
    "in": (opened({"attributes.race.in": "elf,x"}), opened({"attributes.title.in": "king,x"})),
    "exists": (opened({"attributes.motto.exists": "true"}), opened({"attributes.title.exists": "true"})),
    "nested": (opened({"attributes.stats.race": "elf"}), opened({"attributes.stats.title": "king"})),
    "updated_at.gte": (
        {"updated_at_gte": BEGINNING},
        {"updated_at_gte": BEGINNING + timedelta(minutes=100_000, days=98)},
    ),
    "updated_at.lt": ({"updated_at_lt": datetime(2030, 1, 1, tzinfo=UTC)}, {"updated_at_lt": BEGINNING + timedelta(1)}),
    "q": ({"q": "dragon"}, {"q": "xylophonist"}),
    "q part": ({"q": "龙骑"}, {"q": "凰城"}),
    "q misspelt": ({"q": "dragon"}, {"q": "Quetzalcotl"}),
}
# A filter that can match few characters only
RARE = {"name": {"name": "quetzalcoatl of 11"}, "id.in": {"id_in": (UUID(int=21), UUID(int=31))}}
PLANS = ("force_custom_plan", "force_generic_plan")
every_plan = pytest.mark.parametrize("plan", PLANS)
everybodys = pytest.mark.parametrize("whose", [BOTH, STRANGER])


@pytest.fixture(scope="module")
async def connection(fresh_database: str) -> AsyncIterator[asyncpg.Connection]:
    done = piccolo("migrations", "forwards", "all", DATABASE_URL=fresh_database)
    assert done.returncode == 0, done.stdout
    connection = await asyncpg.connect(fresh_database, statement_cache_size=0, server_settings={"timezone": "UTC"})
    await connection.execute(FILL)
    await connection.execute("VACUUM ANALYZE")  # also merges the pending lists of the GIN indexes
    yield connection
    await connection.close()


@every_plan
@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("sort", ["created_at", "updated_at", "name"])
@pytest.mark.parametrize("direction", ["", "-"])
async def test_a_page_without_filters_reads_only_its_rows(
    connection: asyncpg.Connection, whose: str, sort: str, direction: str, plan: str
) -> None:
    query = CharacterQuery(sort=(direction + sort,))
    for after in (None, DEEP[sort]):
        cost = await cost_of(connection, plan, statement(whose, query, after))
        assert cost.characters <= 2.5 * (LIMIT + 1)
        assert cost.members <= MEMBERS
        assert cost.buffers <= 150


@every_plan
@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("sort", [("-updated_at", "name"), ("created_at", "-name"), ("name", "-created_at")])
async def test_a_deep_page_in_two_directions_reads_only_its_rows(
    connection: asyncpg.Connection, whose: str, sort: tuple[str, str], plan: str
) -> None:
    first, second = (DEEP[key.removeprefix("-")][0] for key in sort)
    cost = await cost_of(connection, plan, statement(whose, CharacterQuery(sort=sort), (first, second, MIDDLE)))
    if whose == "named":  # PostgreSQL may sort all characters of one user, who has 10,000 at most
        assert cost.characters <= 1.1 * 10_000
        return
    assert cost.characters <= 2.5 * (LIMIT + 1)
    assert cost.members <= MEMBERS
    assert cost.buffers <= 150


@every_plan
@everybodys
@pytest.mark.parametrize("filtered", [*COMMON_AND_RARE, *RARE])
@pytest.mark.parametrize("sort", [None, "name"])
async def test_a_rare_match_is_found_by_its_index(
    connection: asyncpg.Connection, whose: str, filtered: str, sort: str | None, plan: str
) -> None:
    if filtered.startswith("q") and sort is None:
        sort = "-rank"
    rare = RARE[filtered] if filtered in RARE else COMMON_AND_RARE[filtered][1]
    query = CharacterQuery(**rare, sort=(sort,) if sort else None)
    cost = await cost_of(connection, plan, statement(whose, query))
    assert cost.characters <= 2 * (LIMIT + 1)
    assert cost.buffers <= 150


@everybodys
@pytest.mark.parametrize("filtered", COMMON_AND_RARE)
@pytest.mark.parametrize("sort", [None, "name"])
async def test_a_common_match_is_read_in_the_order_of_the_list(
    connection: asyncpg.Connection, whose: str, filtered: str, sort: str | None
) -> None:
    """With a custom plan, which PostgreSQL also chooses itself, even after runs with rare values only."""
    common, rare = COMMON_AND_RARE[filtered]
    order = (sort,) if sort else None
    wanted = statement(whose, CharacterQuery(**common, sort=order))
    before = statement(whose, CharacterQuery(**rare, sort=order))
    ranked = 3 if filtered.startswith("q") and sort is None else 1  # it reads MAX_SORTED matches in each scope
    for cost in (
        await cost_of(connection, "force_custom_plan", wanted),
        await cost_of(connection, "auto", wanted, before=before if before.sql == wanted.sql else wanted),
    ):
        assert cost.characters <= 3 * ranked * (MAX_SORTED + 1)
        assert cost.buffers <= 1.5 * ranked * (MAX_SORTED + 1)


@every_plan
@everybodys
@pytest.mark.parametrize("filtered", COMMON_AND_RARE)
@pytest.mark.parametrize("sort", ["-created_at", "name"])
async def test_a_bounded_page_stops_when_full_or_at_its_bound(
    connection: asyncpg.Connection, whose: str, filtered: str, sort: str, plan: str
) -> None:
    common, rare = (CharacterQuery(**given, sort=(sort,)) for given in COMMON_AND_RARE[filtered])
    for query, after in ((common, None), (common, DEEP[sort.removeprefix("-")])):
        cost = await cost_of(connection, plan, statement(whose, query, after, bounded=True))
        assert cost.characters <= 6 * (LIMIT + 1)
        assert cost.members <= MEMBERS
        assert cost.buffers <= 300
    cost = await cost_of(connection, plan, statement(whose, rare, bounded=True))
    assert cost.characters <= 1.1 * MAX_READ_PER_ROW * (LIMIT + 1)
    assert cost.members <= MEMBERS
    assert cost.buffers <= 1.5 * MAX_READ_PER_ROW * (LIMIT + 1)


@pytest.mark.parametrize("filtered", COMMON_AND_RARE)
async def test_a_list_of_ones_own_reads_at_most_all_of_them(connection: asyncpg.Connection, filtered: str) -> None:
    for given in COMMON_AND_RARE[filtered]:
        query = CharacterQuery(**given)
        for plan in ("force_custom_plan", "force_generic_plan"):
            cost = await cost_of(connection, plan, statement(LIGHT_OWN, query))
            assert cost.characters <= 2 * LIGHTS
            cost = await cost_of(connection, plan, statement(HEAVY_OWN, query))
            assert cost.characters <= HEAVYS + MAX_SORTED


@every_plan
@everybodys
@pytest.mark.parametrize("sort", ["name", "-updated_at"])
async def test_a_short_period_is_found_by_its_index_in_any_order(
    connection: asyncpg.Connection, whose: str, sort: str, plan: str
) -> None:
    query = CharacterQuery(created_at_lt=BEGINNING + timedelta(minutes=9), sort=(sort,))
    cost = await cost_of(connection, plan, statement(whose, query))
    assert cost.characters <= 2 * (LIMIT + 1)
    assert cost.buffers <= 150


@every_plan
@pytest.mark.parametrize("whose", [LIGHT_OWN, BOTH, STRANGER])
@pytest.mark.parametrize("bounded", [False, True])
async def test_what_is_not_public_is_not_searched_among_the_public(
    connection: asyncpg.Connection, whose: str, bounded: bool, plan: str
) -> None:
    query = CharacterQuery(visibility_in=("private", "unlisted"))
    cost = await cost_of(connection, plan, statement(whose, query, bounded=bounded))
    assert cost.characters <= 2 * LIGHTS
    assert cost.buffers <= 300


@every_plan
async def test_counting_stops(connection: asyncpg.Connection, plan: str) -> None:
    cost = await cost_of(connection, plan, statement(STRANGER, CharacterQuery(count="exact")))
    assert MAX_COUNTED <= cost.characters <= 1.5 * MAX_COUNTED


class Statement(NamedTuple):
    sql: str
    arguments: list[Any]


def statement(
    whose: str, query: CharacterQuery, after: tuple[Any, ...] | None = None, *, bounded: bool = False
) -> Statement:
    """The SQL that the service runs for this query, and its arguments."""
    scopes, user = WHOSE[whose]
    filters = CHARACTERS.filters.given(query)
    shape = Shape(
        scopes=scopes,
        filters=tuple(sorted(filters)),
        sort=_sort(query.sort or (("-rank",) if query.q else CHARACTERS.default_sort)),
        fields=(),
        expand=(),
        after=after is not None,
        counted=query.count,
        limit=LIMIT,
    )
    given = {name: value for params in filters.values() for name, value in params.items()}
    given |= {f"after_{index}": value for index, value in enumerate(after or ())}
    given |= {"user": user, "owner": "member-1", "limit": LIMIT + 1}
    prepared = (CHARACTERS._bounded_page_of if bounded else CHARACTERS._page_of)(shape)
    return Statement(*prepared._bind(given))


async def cost_of(
    connection: asyncpg.Connection, plan: str, wanted: Statement, *, before: Statement | None = None
) -> Cost:
    """The cost after so many runs (of ``before``) that PostgreSQL has chosen between a custom and a generic plan."""
    await connection.execute(f"SET plan_cache_mode = {plan}")
    await connection.execute(f"PREPARE page AS {wanted.sql}")
    try:
        for _ in range(7):
            await connection.execute(_execute(before or wanted))
        await connection.execute(_execute(wanted))
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_execute(wanted)}")
    finally:
        await connection.execute("DEALLOCATE page")
    root = json.loads(text)[0]["Plan"]
    nodes = list(_nodes(root))
    return Cost(
        characters=sum(_rows(node) for node in nodes if node.get("Relation Name") == "characters"),
        members=sum(_rows(node) for node in nodes if node.get("Relation Name") == "users"),
        buffers=root["Shared Hit Blocks"] + root["Shared Read Blocks"],
    )


def _execute(wanted: Statement) -> str:
    arguments = f"({', '.join(map(_literal, wanted.arguments))})" if wanted.arguments else ""
    return f"EXECUTE page {arguments}"


def _nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _rows(node: Any) -> int:
    """Rows read, whether they matched or not."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return round(node["Actual Loops"] * (node["Actual Rows"] + sum(node.get(name, 0) for name in removed)))


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        value = "{" + ",".join(json.dumps(str(part)) for part in value) + "}"
    return "'" + str(value).replace("'", "''") + "'"


async def test_a_page_does_not_read_what_suspended_users_own(connection: asyncpg.Connection) -> None:
    """The last test here: what it rolls back stays in the indexes and costs the other tests buffers. It takes 15 s, so
    all lists are read after one suspension."""
    suspension = connection.transaction()
    await suspension.start()
    try:
        await connection.execute("UPDATE characters SET owner = $1 WHERE created_at > '2026-03-05Z'", HEAVY)
        await connection.execute("UPDATE users SET status = 'suspended' WHERE id = $1", HEAVY)
        for plan in PLANS:
            for whose in (BOTH, STRANGER):
                for sort in ("created_at", "updated_at", "name"):
                    cost = await cost_of(connection, plan, statement(whose, CharacterQuery(sort=(f"-{sort}",))))
                    assert cost.characters <= 2.5 * (LIMIT + 1), (plan, whose, sort)
    finally:
        await suspension.rollback()
