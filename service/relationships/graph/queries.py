from collections.abc import Sequence
from string import Formatter
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.scopes import listed_to, visible_to
from service.characters.tables import Character
from service.database.prepared import Param, Prepared, json_object
from service.database.replicas import from_replica
from service.errors import NotFound
from service.relationships.scopes import RELATIONSHIP, by_end
from service.relationships.tables import Relationship
from service.relationships.types import TYPES

MAX_NODES = 500
MAX_STEPS = 5_000  # relationships read from one level of the graph

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
        "source": by_end(Relationship.source, Relationship.target),
        "target": by_end(Relationship.target, Relationship.source),
        **{name: RELATIONSHIP[name] for name in ("type", "label", "inverse_label", "attitude", "returned_attitude")},
    }
)

# The recursion yields one row for each level, which is one step away from the level before:
# - ``found``: the characters that this level adds
# - ``seen``: all characters up to this level; they are not added again, so a cycle ends
# - ``steps``: the relationships that were followed to get here
# - ``cut``: whether a limit left anything out
# One level more than ``depth`` is read. It adds no characters, only the relationships between those of the last level.
# Relationships are limited to ``max_steps`` before they are filtered, so the number of rows read has a bound in any
# graph and for any filter.
# LATERAL with LIMIT 1 makes PostgreSQL look each row up by its primary key; for a join it may read the whole table.
_GRAPH = """
WITH RECURSIVE
level (depth, found, seen, steps, cut) AS (
    SELECT 0, ARRAY[id], ARRAY[id], ARRAY[]::uuid[], false FROM characters WHERE id = {root} AND {visible}
    UNION ALL
    SELECT depth + 1, next.found, seen || next.found, next.steps, next.cut
    FROM level, LATERAL (
        WITH step AS (
            SELECT edge.id, neighbour, {type_matches} AS matches
            FROM unnest(level.found) AS known (id), LATERAL (
                (
                    SELECT id, target AS neighbour, type FROM relationships
                    WHERE source = known.id ORDER BY created_at, id LIMIT {max_steps}
                )
                UNION ALL
                (
                    SELECT id, source, type FROM relationships
                    WHERE target = known.id ORDER BY created_at, id LIMIT {max_steps}
                )
            ) AS edge
            LIMIT {max_steps}
        ),
        added AS (
            SELECT characters.id
            FROM (SELECT DISTINCT neighbour FROM step WHERE matches AND neighbour <> ALL (seen)) AS reached, LATERAL (
                SELECT * FROM characters WHERE id = neighbour LIMIT 1
            ) AS characters
            WHERE level.depth < {depth} AND {listed}
        )
        SELECT
            ARRAY(SELECT id FROM added ORDER BY id LIMIT {max_nodes} - cardinality(seen)) AS found,
            ARRAY(SELECT id FROM step WHERE matches) AS steps,
            (SELECT count(*) FROM added) > {max_nodes} - cardinality(seen)
            OR (SELECT count(*) FROM step) >= {max_steps} AS cut
    ) AS next
    WHERE depth <= {depth} AND level.found <> ARRAY[]::uuid[]
),
node (id, depth) AS (SELECT unnest(found), depth FROM level),
followed (id) AS (SELECT DISTINCT unnest(steps) FROM level),
related AS (
    SELECT {edge} AS item
    FROM followed, LATERAL (SELECT * FROM relationships WHERE id = followed.id LIMIT 1) AS relationships
    WHERE source = ANY (ARRAY(SELECT id FROM node)) AND target = ANY (ARRAY(SELECT id FROM node))
)
SELECT nodes.items, edges.items, (SELECT bool_or(cut) FROM level), nodes.number + edges.number
FROM
    (
        SELECT json_agg({node} ORDER BY depth, characters.id) AS items, count(*) AS number
        FROM node, LATERAL (SELECT * FROM characters WHERE id = node.id LIMIT 1) AS characters
    ) AS nodes,
    (SELECT coalesce(json_agg(item), '[]') AS items, count(*) AS number FROM related) AS edges
"""


class FoundGraph(msgspec.Struct, frozen=True):
    """A graph whose ``nodes`` and ``edges`` are JSON. ``size`` is how many there are together."""

    nodes: str
    edges: str
    truncated: bool
    size: int


def _graph_query() -> QueryString:
    """``_GRAPH`` with each name in braces replaced by the SQL that Piccolo writes for it."""
    parts = {
        "root": QueryString("{}::uuid", Param("root")),
        "visible": visible_to(Param("user")).querystring,
        "depth": QueryString("{}::int", Param("depth")),
        "type_matches": QueryString("({}::text[] IS NULL OR type = ANY ({}::text[]))", Param("types"), Param("types")),
        "listed": listed_to(Param("user")).querystring,
        "node": _NODE,
        "edge": _EDGE,
    }
    limits = {"max_nodes": MAX_NODES, "max_steps": MAX_STEPS}
    pieces, values = [], []
    for text, name, _, _ in Formatter().parse(_GRAPH):
        pieces.append(text)
        if name in limits:
            pieces.append(str(limits[name]))
        elif name:
            pieces.append("{}")
            values.append(parts[name])
    return QueryString("".join(pieces), *values)


_QUERY = Prepared(_graph_query)


@from_replica
async def get_graph(user: Caller, character_id: UUID, depth: int, types: Sequence[str] | None) -> FoundGraph:
    """The characters within ``depth`` steps that the caller may see, MAX_NODES at most, and the relationships between
    them. Raises NotFound when the caller may not see the character itself."""
    stored_types = sorted({TYPES[name][0].name for name in types}) if types is not None else None
    nodes, edges, truncated, size = await _QUERY.one(
        root=character_id, depth=depth, types=stored_types, user=user.id, side=None
    )
    if nodes is None:
        raise NotFound
    return FoundGraph(nodes, edges, bool(truncated), size)
