"""The graph around a character: who is in it, how it is drawn, and what it costs where there are many."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from service.database.engine import DB
from service.relationships.graph.queries import _QUERY, MAX_NODES, MAX_STEPS
from tests.conftest import character, create, without_quotas

Client = httpx.AsyncClient

NOW = datetime.now(UTC)
MERMAID = {"Accept": "text/vnd.mermaid"}


async def _cast(alice: Client, *names: str, **given: Any) -> dict[str, str]:
    """Characters' ids by their names."""
    return {name: (await character(alice, name=name, **given))["id"] for name in names}


async def _relate(alice: Client, source: str, name: str, target: str, **given: Any) -> Any:
    return await create(alice, f"/v1/characters/{source}/relationships", target=target, type=name, **given)


async def _graph(member: Client, root: str, **parameters: Any) -> Any:
    answer = await member.get(f"/v1/characters/{root}/graph", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _depths(graph: Any) -> dict[str, int]:
    return {node["name"]: node["depth"] for node in graph["nodes"]}


async def test_a_chain_is_followed_to_the_given_depth(alice: Client) -> None:
    names = "ABCDEF"
    cast = await _cast(alice, *names)
    for source, target in pairwise(names):
        await _relate(alice, cast[source], "friend_of", cast[target])
    for depth in range(1, 5):
        graph = await _graph(alice, cast["A"], depth=depth)
        assert _depths(graph) == {name: index for index, name in enumerate(names[: depth + 1])}
        assert len(graph["edges"]) == depth
        assert graph["truncated"] is False
    assert await _graph(alice, cast["A"]) == await _graph(alice, cast["A"], depth=2)
    assert _depths(await _graph(alice, cast["C"], depth=1)) == {"C": 0, "B": 1, "D": 1}
    for wrong in (0, 5, "x"):
        assert (await alice.get(f"/v1/characters/{cast['A']}/graph", params={"depth": wrong})).status_code == 400


async def test_a_cycle_ends(alice: Client) -> None:
    cast = await _cast(alice, "A", "B", "C")
    made = [
        await _relate(alice, cast["A"], "parent_of", cast["B"]),
        await _relate(alice, cast["B"], "rival_of", cast["C"]),
        await _relate(alice, cast["C"], "mentor_of", cast["A"]),
        await _relate(alice, cast["A"], "friend_of", cast["B"], attitude=5, returned_attitude=-5),
    ]
    for root in cast.values():
        graph = await _graph(alice, root, depth=4)
        assert sorted(_depths(graph).values()) == [0, 1, 1]
        assert {edge["id"] for edge in graph["edges"]} == {one["id"] for one in made}
        assert len(graph["edges"]) == 4


async def test_relationships_between_characters_of_the_last_level_are_shown(alice: Client) -> None:
    cast = await _cast(alice, "A", "B", "C")
    for name in "BC":
        await _relate(alice, cast["A"], "friend_of", cast[name])
    between = await _relate(alice, cast["B"], "enemy_of", cast["C"])
    graph = await _graph(alice, cast["A"], depth=1)
    assert between["id"] in {edge["id"] for edge in graph["edges"]}
    assert len(graph["edges"]) == 3


async def test_an_edge_reads_from_source_to_target(alice: Client) -> None:
    cast = await _cast(alice, "Parent", "Child")
    await _relate(alice, cast["Child"], "child_of", cast["Parent"], attitude=1, returned_attitude=2)
    for root in cast.values():
        (edge,) = (await _graph(alice, root))["edges"]
        assert (edge["source"], edge["type"], edge["target"]) == (cast["Child"], "child_of", cast["Parent"])
        assert (edge["attitude"], edge["returned_attitude"], edge["label"]) == (1, 2, None)


@pytest.mark.parametrize(
    ("types", "names"),
    [
        ("parent_of", {"A", "Child"}),
        ("child_of", {"A", "Child"}),
        ("student_of,child_of", {"A", "Child", "Mentor"}),
        ("friend_of", {"A"}),
        ("custom, mentor_of", {"A", "Mentor", "Ghost"}),
    ],
)
async def test_types_are_selected_by_either_of_their_names(alice: Client, types: str, names: set[str]) -> None:
    cast = await _cast(alice, "A", "Child", "Mentor", "Ghost")
    await _relate(alice, cast["A"], "parent_of", cast["Child"])
    await _relate(alice, cast["Mentor"], "mentor_of", cast["A"])
    await _relate(alice, cast["A"], "custom", cast["Ghost"], label="haunted by")
    await _relate(alice, cast["Child"], "rival_of", cast["Mentor"])
    graph = await _graph(alice, cast["A"], types=types)
    assert _depths(graph).keys() == names
    assert len(graph["edges"]) == len(names) - 1


async def test_an_unknown_type_is_refused(alice: Client) -> None:
    mira = await character(alice)
    answer = await alice.get(f"/v1/characters/{mira['id']}/graph", params={"types": "friend_of,foe_of"})
    assert answer.status_code == 400
    (fault,) = answer.json()["errors"]
    assert (fault["parameter"], "rival_of" in fault["detail"]) == ("types", True)


@pytest.mark.parametrize(("visibility", "status"), [("private", 404), ("unlisted", 200)])
async def test_the_graph_does_not_pass_through_hidden_characters(
    alice: Client, charlie: Client, visibility: str, status: int
) -> None:
    cast = await _cast(alice, "A", "C", visibility="public") | await _cast(alice, "B", visibility=visibility)
    await _relate(alice, cast["A"], "friend_of", cast["B"])
    await _relate(alice, cast["B"], "friend_of", cast["C"])
    assert _depths(await _graph(alice, cast["A"], depth=4)) == {"A": 0, "B": 1, "C": 2}
    assert await _graph(charlie, cast["A"], depth=4) == {
        "nodes": [{"id": cast["A"], "name": "A", "style": None, "visibility": "public", "depth": 0}],
        "edges": [],
        "truncated": False,
    }
    assert (await charlie.get(f"/v1/characters/{cast['B']}/graph")).status_code == status


async def test_the_diagram_has_an_arrow_for_each_relationship(alice: Client) -> None:
    cast = await _cast(alice, "Mira", "Otto")
    await _relate(alice, cast["Mira"], "mentor_of", cast["Otto"])
    answer = await alice.get(f"/v1/characters/{cast['Otto']}/graph", headers=MERMAID)
    assert answer.headers["content-type"].partition(";")[0] == "text/vnd.mermaid"
    assert "Accept" in answer.headers["vary"]
    assert answer.text == 'graph LR\n    n0["Otto"]\n    n1["Mira"]\n    n1 -- "mentor of" --> n0\n'


async def test_a_symmetric_relationship_has_no_arrow_head(alice: Client) -> None:
    cast = await _cast(alice, "Mira", "Otto")
    await _relate(alice, cast["Mira"], "ally_of", cast["Otto"])
    answer = await alice.get(f"/v1/characters/{cast['Mira']}/graph", headers=MERMAID)
    assert ' -- "ally of" --- ' in answer.text


@pytest.mark.parametrize(("inverse", "line"), [({}, "---"), ({"inverse_label": "haunted by"}, "-->")])
async def test_a_custom_relationship_has_an_arrow_head_if_its_labels_differ(
    alice: Client, inverse: dict[str, str], line: str
) -> None:
    cast = await _cast(alice, "Mira", "Otto")
    await _relate(alice, cast["Mira"], "custom", cast["Otto"], label="haunts", **inverse)
    answer = await alice.get(f"/v1/characters/{cast['Mira']}/graph", headers=MERMAID)
    assert f' -- "haunts" {line} ' in answer.text


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("TEXT/vnd.mermaid", "text/vnd.mermaid"),
        ("text/vnd.mermaid, */*;q=0.1", "text/vnd.mermaid"),
        ("application/json, text/vnd.mermaid;q=0.5", "application/json"),
        ("text/vnd.mermaidx", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_a_client_that_prefers_mermaid_gets_a_diagram(alice: Client, accept: str, given: str) -> None:
    cast = await _cast(alice, "Mira")
    answer = await alice.get(f"/v1/characters/{cast['Mira']}/graph", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, given)


@pytest.mark.parametrize(
    "hostile",
    [
        '"] --> x["',
        "#quot;",
        "a]; click n0 call alert()",
        "<script>alert(1)</script>",
        "%%{init: {}}%%",
        "`**x**`",
        "&#34;",
    ],
)
async def test_a_hostile_name_stays_within_its_quotes(alice: Client, hostile: str) -> None:
    cast = await _cast(alice, hostile, "Élodie 雪")
    await _relate(alice, cast[hostile], "custom", cast["Élodie 雪"], label=hostile, inverse_label="other")
    text = (await alice.get(f"/v1/characters/{cast[hostile]}/graph", headers=MERMAID)).text
    lines = text.splitlines()
    assert len(lines) == 4
    shown = lines[1].removeprefix('    n0["').removesuffix('"]')
    assert "Élodie 雪" in lines[2]
    said = lines[3].removeprefix('    n0 -- "').removesuffix('" --> n1')
    for escaped in (shown, said):
        assert not set(escaped) & set("\"[]{}()<>|`&%-\n'\\")
        assert _unescaped(escaped) == hostile


def _unescaped(text: str) -> str:
    """Returns the text with Mermaid's entities as Mermaid shows them."""
    found = []
    while text:
        before, sign, rest = text.partition("#")
        code, _, text = rest.partition(";")
        found.append(before + (chr(int(code)) if sign else ""))
    return "".join(found)


# A world of many: written straight into the database.


@contextmanager
def _statements(queries: list[str]) -> Iterator[None]:
    """Collects what the pool's connections are asked."""
    log = lambda record: queries.append(record.query)  # noqa: E731 (asyncpg compares loggers by identity)
    connections = [holder._con for holder in DB.pool._holders if holder._con]
    for connection in connections:
        connection.add_query_logger(log)
    yield
    for connection in connections:
        connection.remove_query_logger(log)


def _number(kind: int, index: int) -> UUID:
    return UUID(int=(kind << 96) + index)


class World:
    """Characters of Alice's by their numbers, and relationships between them."""

    def __init__(self, owner: UUID) -> None:
        self.owner = owner
        self.relationships = 0

    async def populate(self, numbers: range, visibility: str = "private") -> None:
        same = {"owner": self.owner, "visibility": visibility, "description": "", "tags": [], "version": 1}
        same |= {"attributes": "{}", "extensions": "{}", "created_at": NOW, "updated_at": NOW}
        async with without_quotas():
            await _copy("characters", [same | {"id": _number(1, index), "name": f"C{index}"} for index in numbers])

    async def relate(self, pairs: list[tuple[int, int]], name: str = "colleague_of") -> None:
        same = {"type": name, "inverse_type": name, "label": "", "inverse_label": "", "description": "", "version": 1}
        same |= {"created_at": NOW, "updated_at": NOW}
        rows = []
        for source, target in pairs:
            self.relationships += 1
            ends = {"source": _number(1, source), "target": _number(1, target)}
            rows.append(same | ends | {"id": _number(2, self.relationships)})
        await _copy("relationships", rows)

    async def analyze(self) -> None:
        await DB.run_ddl("ANALYZE characters")
        await DB.run_ddl("ANALYZE relationships")


async def _copy(table: str, rows: list[dict[str, Any]]) -> None:
    """In parts: to generate the search columns of all rows takes PostgreSQL 15 longer than a statement may."""
    async with DB.connection() as connection:
        for at in range(0, len(rows), 2_500):
            records = [tuple(row.values()) for row in rows[at : at + 2_500]]
            await connection.copy_records_to_table(table, columns=list(rows[0]), records=records)


@pytest.fixture
async def world(alice: Client) -> AsyncIterator[World]:
    yield World(UUID((await alice.get("/v1/users/me")).json()["id"]))
    await DB.run_ddl("TRUNCATE relationships, characters CASCADE")
    await DB.run_ddl("ANALYZE characters")
    await DB.run_ddl("ANALYZE relationships")


async def _rows_read(owner: UUID, root: int, depth: int, types: list[str] | None, plan: str) -> int:
    """Rows of characters and relationships that the query reads, whether it keeps them or not. Never a whole table."""
    sql, arguments = _QUERY._bind(
        {"root": _number(1, root), "depth": depth, "types": types, "user": owner, "side": None}
    )
    given = ", ".join(_literal(argument) for argument in arguments)
    connection: asyncpg.Connection = await DB.get_new_connection()
    try:
        await connection.execute(f"SET plan_cache_mode = {plan}")
        await connection.execute(f"PREPARE graph AS {sql}")
        told = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE graph ({given})")
    finally:
        await connection.close()
    scans = list(_scans(json.loads(told)[0]["Plan"]))
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans}
    return sum(
        round((scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"]) for scan in scans
    )


def _literal(argument: Any) -> str:
    if isinstance(argument, list):
        return f"'{{{','.join(argument)}}}'"
    return "NULL" if argument is None else f"'{argument}'"


def _scans(plan: Any) -> Iterator[Any]:
    """The nodes that read tables or indexes."""
    if plan.get("Relation Name") in {"characters", "relationships"} or plan["Node Type"] == "Bitmap Index Scan":
        yield plan
    for inner in plan.get("Plans", ()):
        yield from _scans(inner)


def _most_rows(depth: int) -> int:
    """The root; each level's relationships, then the characters at their ends, and one level more for the last edges;
    each of those once more for the answer."""
    return 1 + depth * MAX_STEPS + (depth + 1) * MAX_STEPS * 2 + MAX_NODES


@pytest.mark.parametrize(("depth", "units"), [(1, 2 + 9 // 50), (4, 8 + 1_494 // 50)])
@pytest.mark.parametrize("accept", ["application/json", "text/vnd.mermaid"])
async def test_a_graph_counts_by_what_is_in_it(
    alice: Client, world: World, depth: int, units: int, accept: str
) -> None:
    """At depth 1 it has 5 characters and 4 relationships, and at depth 4 500 and 994."""
    await world.populate(range(MAX_NODES))
    await world.relate([(0, index) for index in range(1, 5)])
    await world.relate([(1, index) for index in range(5, MAX_NODES)])
    await world.relate([(2, index) for index in range(5, MAX_NODES)])
    path, headers = f"/v1/characters/{_number(1, 0)}/graph?depth={depth}", {"Accept": accept}
    before = await alice.get("/v1/nowhere")
    answer = await alice.get(path, headers=headers)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, accept)
    left = [int(each.headers["ratelimit-remaining"]) for each in (before, answer)]
    assert left[0] - left[1] == units


async def test_a_graph_has_at_most_five_hundred_nodes(alice: Client, world: World) -> None:
    assert MAX_NODES == 500
    await world.populate(range(MAX_NODES + 1))
    await world.relate([(0, index) for index in range(1, MAX_NODES)])
    root = str(_number(1, 0))
    full = await _graph(alice, root, depth=4)
    assert (len(full["nodes"]), len(full["edges"]), full["truncated"]) == (MAX_NODES, MAX_NODES - 1, False)

    await world.relate([(MAX_NODES, 3)])  # one more, two steps away
    cut = await _graph(alice, root, depth=2)
    assert (len(cut["nodes"]), len(cut["edges"]), cut["truncated"]) == (MAX_NODES, MAX_NODES - 1, True)
    assert (await _graph(alice, root, depth=1))["truncated"] is False
    await world.relate([(MAX_NODES, 0)])
    cut = await _graph(alice, root, depth=1)
    assert (len(cut["nodes"]), cut["truncated"]) == (MAX_NODES, True)


async def test_a_graph_past_the_limit_of_relationships_is_truncated(
    alice: Client, charlie: Client, world: World
) -> None:
    """The only public neighbour comes after more private ones than are looked at."""
    await world.populate(range(1), visibility="public")
    await world.populate(range(1, MAX_STEPS + 1))
    await world.populate(range(MAX_STEPS + 1, MAX_STEPS + 2), visibility="public")
    await world.relate([(0, index) for index in range(1, MAX_STEPS + 2)])
    graph = await _graph(charlie, str(_number(1, 0)), depth=1)
    assert (len(graph["nodes"]), graph["truncated"]) == (1, True)


async def test_every_node_is_reached_by_an_edge(alice: Client, world: World) -> None:
    """Also from a character of few to one of very many, who would not show it among its first."""
    await world.populate(range(3_000))
    await world.relate([(1, index) for index in range(2, 3_000)])
    await world.relate([(1, 0)])
    graph = await _graph(alice, str(_number(1, 0)), depth=2)
    assert (len(graph["nodes"]), graph["truncated"]) == (MAX_NODES, True)
    reached = {graph["nodes"][0]["id"]}
    for _ in range(2):
        for edge in graph["edges"]:
            ends = {edge["source"], edge["target"]}
            reached |= ends if ends & reached else set()
    assert reached == {node["id"] for node in graph["nodes"]}


async def test_a_graph_is_one_query_that_reads_a_bounded_number_of_rows(alice: Client, world: World) -> None:
    """Among 10,000 characters with 40,000 relationships and, apart from them, a hub with 5,000."""
    await world.populate(range(15_001))
    ring = [(index, (index + far) % 10_000) for far in (1, 7, 61, 977) for index in range(10_000)]
    await world.relate(ring, name="friend_of")
    await world.relate([(15_000, index) for index in range(10_000, 15_000)])
    await world.analyze()

    queries: list[str] = []
    for root in (15_000, 12_345, 0):
        await _graph(alice, str(_number(1, root)), depth=3)  # signed in, prepared
        await asyncio.sleep(0)  # asyncpg tells a moment later
        queries.clear()
        with _statements(queries):
            graph = await _graph(alice, str(_number(1, root)), depth=3)
            await asyncio.sleep(0)
        assert len(queries) == 1, queries
        assert graph["nodes"]
    for root, types in ((0, None), (12_345, None), (15_000, None), (15_000, ["friend_of"])):
        for plan in ("force_custom_plan", "force_generic_plan"):
            rows = await _rows_read(world.owner, root, 3, types, plan)
            assert rows <= _most_rows(3)
            if root == 0:  # everyone has eight relationships, each read for its other end and for the answer
                assert rows <= len(graph["nodes"]) * (1 + 8 * 3)
