"""Queries that Piccolo writes once, and that are run often.

Compiling SQL is what Piccolo's builder costs, and the text is the same each time. So each hot query is written in the
builder, compiled on first use and run with new parameters as a prepared statement; PostgreSQL renders the JSON::

    CHARACTER = Prepared(lambda: Character.select(json_object(…)).where(Character.id == Param("id")))
    row = await CHARACTER.one(id=character_id)
"""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property, partial
from typing import Any

import asyncpg
from piccolo.columns import Column
from piccolo.query import Query
from piccolo.querystring import QueryString, Selectable
from piccolo.table import Table

from service.database.engine import DB


class Param(str):
    """Stands in a Piccolo query for a value that is given, under this name, when the query runs."""

    __slots__ = ()


class Prepared:
    """A query that Piccolo writes on first use; only the values change.

    PostgreSQL soon keeps one plan for any values. One that is ``replanned`` has a plan for its values each time, in
    ``all``, which costs a millisecond and pays where the best plan hangs on them.
    """

    def __init__(self, write: Callable[[], Query[Any, Any] | QueryString], *, replanned: bool = False) -> None:
        self._write = write
        self._replanned = replanned

    @cached_property
    def _compiled(self) -> tuple[str, list[Any]]:
        query = self._write()
        return (query if isinstance(query, QueryString) else sql(query)).compile_string()

    async def one(self, **given: Any) -> Any:
        """The first row as a Record, or None."""
        sql, arguments = self._bind(given)
        async with DB.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def value(self, **given: Any) -> Any:
        """The first row's first column, or None."""
        sql, arguments = self._bind(given)
        async with DB.connection() as connection:
            return await connection.fetchval(sql, *arguments)

    async def all(self, *, timeout: float | None = None, **given: Any) -> list[Any]:  # noqa: ASYNC109 (asyncpg's own)
        """All rows as Records. Raises TimeoutError after ``timeout`` seconds."""
        sql, arguments = self._bind(given)
        async with DB.connection() as connection:
            run = (await connection.prepare(sql)).fetch if self._replanned else partial(connection.fetch, sql)
            return await run(*arguments, timeout=timeout)  # type: ignore[no-any-return] # asyncpg

    async def batches(self, connection: asyncpg.Connection, size: int, **given: Any) -> AsyncIterator[list[Any]]:
        """All rows as Records, never more than ``size`` at once; ``connection`` must be in a transaction."""
        sql, arguments = self._bind(given)
        cursor = await connection.cursor(sql, *arguments)
        while rows := await cursor.fetch(size):
            yield rows

    def _bind(self, given: Mapping[str, Any]) -> tuple[str, list[Any]]:
        sql, arguments = self._compiled
        return sql, [given[argument] if isinstance(argument, Param) else argument for argument in arguments]


NOW = QueryString("now()")


def insert(table: type[Table], *names: str, **fixed: Any) -> Query[Any, Any]:
    """An INSERT of one row, with a Param for each of ``names``.

    A default that Piccolo computes would be computed once, when the query is written: times come from PostgreSQL.
    """
    values: dict[str, Any] = {name: NOW for name in ("created_at", "updated_at") if hasattr(table, name)}
    values |= {name: Param(name) for name in names} | fixed
    return table.insert(table(**values))


def json_object(fields: Mapping[str, Selectable]) -> QueryString:
    """PostgreSQL renders ``fields`` as one compact JSON object."""
    members = ", ".join(f'{{}} AS "{name}"' for name in fields)
    template = f"(SELECT to_json(item) FROM (SELECT {members}) AS item)"  # noqa: S608 (our own names, never a client's)
    return QueryString(template, *fields.values())


def utc(column: Column) -> QueryString:
    """``column`` in the one form that times have in JSON: 2026-01-31T23:59:59.123456Z."""
    return QueryString('to_char({}, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')', column)


def written(change: Query[Any, Any], read: Query[Any, Any], *, also: Query[Any, Any] | None = None) -> QueryString:
    """One statement of two or three: ``change`` writes rows, ``also`` writes others, and ``read``, which selects from
    the table that ``change`` writes, sees just its rows."""
    table = read.table
    changed = sql(change.returning(*table.all_columns()))  # type: ignore[attr-defined] # any that writes
    name = table._meta.tablename
    if also is None:
        return QueryString(f'WITH "{name}" AS ({{}}) {{}}', changed, sql(read))
    return QueryString(f'WITH "{name}" AS ({{}}), also AS ({{}}) {{}}', changed, sql(also), sql(read))


def sql(query: Query[Any, Any]) -> QueryString:
    """``query`` as a part of another."""
    return query.querystrings[0]
