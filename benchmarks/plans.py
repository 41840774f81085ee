"""Measures the rows and buffers that a statement touches, with the plan that a long-running service uses."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import asyncpg

RUNS_BEFORE = 6  # after five, PostgreSQL may choose a generic plan


class Statement(NamedTuple):
    method: str  # of asyncpg's connection
    sql: str
    arguments: tuple[Any, ...]
    is_shared: bool = False  # coalesced with the reads of other requests


class Cost(NamedTuple):
    rows: int  # read by scans, including those that filters removed
    buffers: int


async def cost_of(connection: asyncpg.Connection, statement: Statement) -> Cost:
    """Rolls the statement back."""
    literals = ", ".join(map(_literal, statement.arguments))
    execute = f"EXECUTE measured ({literals})" if literals else "EXECUTE measured"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"PREPARE measured AS {statement.sql}")
        for _ in range(0 if "INSERT" in statement.sql else RUNS_BEFORE):
            await connection.execute(execute)
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}")
    finally:
        await transaction.rollback()
        await connection.execute("DEALLOCATE measured")
    root = json.loads(text)[0]["Plan"]
    rows = sum(_rows(node) for node in _nodes(root) if "Relation Name" in node)
    return Cost(rows, root["Shared Hit Blocks"] + root["Shared Read Blocks"])


def _nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _rows(node: Any) -> int:
    filtered = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    removed = sum(node.get(name, 0) for name in filtered)
    return int(node["Actual Loops"] * (node["Actual Rows"] + removed))


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        value = "{" + ",".join(json.dumps(part) for part in value) + "}"
    return "'" + str(value).replace("'", "''") + "'"
