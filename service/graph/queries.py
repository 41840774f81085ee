from collections.abc import Sequence
from string import Formatter
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.queries import get_character, listed_to
from service.characters.tables import Character
from service.database import Param, Prepared, json_object
from service.graph.schemas import Graph
from service.relationships.registry import TYPES
from service.relationships.tables import Relationship

MAX_NODES = 500
_MAX_STEPS = 5_000  # relationships looked at from one level of the graph
_MAX_OF_ONE = 1_000  # relationships looked at from one character

_NODE = json_object(
    {
        "id": Character.id,
        "name": Character.name,
        "style": Character.style,
        "visibility": Character.visibility,
        "depth": QueryString("depth"),
    }
)
_EDGE = json_object(
    {
        "id": Relationship.id,
        "source": Relationship.source,
        "target": Relationship.target,
        "type": Relationship.type,
        "label": QueryString("nullif({}, '')", Relationship.label),
        "attitude": Relationship.source_attitude,
        "returned_attitude": Relationship.target_attitude,
    }
)

# One row a level: the characters that are new on it, and all that were seen up to it. A cycle ends where it began, as
# what was seen is not new again. The limits bound the rows that are read, however dense the graph is.
_GRAPH = """
WITH RECURSIVE
level (depth, found, seen, cut) AS (
    SELECT 0, ARRAY[{root}], ARRAY[{root}], false
    UNION ALL
    SELECT depth + 1, next.found, seen || next.found, next.cut
    FROM level, LATERAL (
        SELECT
            (array_agg(id))[:{max_nodes} - cardinality(seen)] AS found,
            count(*) > {max_nodes} - cardinality(seen) OR max(steps) >= {max_steps} AS cut
        FROM (
            SELECT characters.id, max(step) AS steps
            FROM (
                SELECT neighbour, row_number() OVER () AS step
                FROM unnest(level.found) AS known (id), LATERAL (
                    (SELECT target AS neighbour FROM relationships WHERE source = known.id AND {wanted} LIMIT {of_one})
                    UNION ALL
                    (SELECT source FROM relationships WHERE target = known.id AND {wanted} LIMIT {of_one})
                ) AS edge
                LIMIT {max_steps}
            ) AS reached
            JOIN characters ON characters.id = neighbour
            WHERE NOT neighbour = ANY (seen) AND {listed}
            GROUP BY characters.id
        ) AS fresh
    ) AS next
    WHERE depth < {depth} AND cardinality(seen) < {max_nodes} AND next.found <> ARRAY[]::uuid[]
),
node (id, depth) AS (SELECT unnest(found), depth FROM level),
related AS (
    SELECT {edge} AS item
    FROM node, LATERAL (
        SELECT * FROM relationships WHERE source = node.id AND {wanted} LIMIT {of_one}
    ) AS relationships
    WHERE target IN (SELECT id FROM node)
)
SELECT
    (SELECT json_agg({node} ORDER BY depth, characters.id) FROM node JOIN characters ON characters.id = node.id),
    (SELECT coalesce(json_agg(item), '[]') FROM related),
    (SELECT bool_or(cut) FROM level)
"""


def _write() -> QueryString:
    """Fills the names of the text above with what Piccolo writes, in the order in which they stand."""
    parts = {
        "root": QueryString("{}::uuid", Param("root")),
        "depth": QueryString("{}::int", Param("depth")),
        "wanted": QueryString("({}::text[] IS NULL OR type = ANY ({}::text[]))", Param("types"), Param("types")),
        "listed": listed_to(Param("user")).querystring,
        "node": _NODE,
        "edge": _EDGE,
    }
    limits = {"max_nodes": MAX_NODES, "max_steps": _MAX_STEPS, "of_one": _MAX_OF_ONE}
    pieces, values = [], []
    for text, name, _, _ in Formatter().parse(_GRAPH):
        pieces.append(text)
        if name in limits:
            pieces.append(str(limits[name]))
        elif name:
            pieces.append("{}")
            values.append(parts[name])
    return QueryString("".join(pieces), *values)


_QUERY = Prepared(_write)


async def get_graph(user: Caller, character_id: UUID, depth: int, types: Sequence[str] | None) -> Graph:
    """What is within ``depth`` steps of a character, of what the caller may see: one query, at most MAX_NODES nodes."""
    await get_character(user, character_id)
    stored = sorted({TYPES[name][0].name for name in types}) if types is not None else None
    nodes, edges, truncated = await _QUERY.one(root=character_id, depth=depth, types=stored, user=user.id)
    return msgspec.convert(
        {"nodes": msgspec.json.decode(nodes), "edges": msgspec.json.decode(edges), "truncated": bool(truncated)}, Graph
    )
