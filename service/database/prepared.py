"""Prepared queries: Piccolo writes the SQL once, and each run has new parameters.

Piccolo takes 250 to 400 µs to compile a query, and its text is the same each time. So a frequent query is written with
the builder, compiled on first use, and run as a prepared statement. PostgreSQL renders the JSON::

    CHARACTER = Prepared(lambda: Character.select(json_object(…)).where(Character.id == Param("id")))
    row = await CHARACTER.one(id=character_id)
"""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property, partial
from typing import Any

import asyncpg
from piccolo.columns import Column
from piccolo.query import Query
from piccolo.querystring import QueryString, Selectable
from piccolo.table import Table

from service.database.engine import DB
from service.database.measured import measured


class Param(str):
    """A named parameter of a Piccolo query. Its value is given when the query runs."""

    __slots__ = ()


class Prepared:
    """A query that is compiled on first use.

    PostgreSQL soon keeps one generic plan. With ``replanned``, ``all`` plans each run for its values instead. That
    costs a millisecond, and pays if the best plan depends on the values.
    """

    def __init__(
        self, write: Callable[[], Query[Any, Any] | QueryString], *, name: str | None = None, replanned: bool = False
    ) -> None:
        self._write = write
        self._name = name
        self._replanned = replanned

    @cached_property
    def name(self) -> str:
        """For logs and traces."""
        return self._name or name_of(self, self._write)

    @cached_property
    def _compiled(self) -> tuple[str, list[Any]]:
        query = self._write()
        return (query if isinstance(query, QueryString) else sql(query)).compile_string()

    async def one(self, **given: Any) -> Any:
        """The first row as a Record, or None."""
        sql, arguments = self._bind(given)
        async with DB.connection() as connection:
            return await measured(self.name, connection.fetchrow(sql, *arguments))

    async def value(self, **given: Any) -> Any:
        """The first row's first column, or None."""
        sql, arguments = self._bind(given)
        async with DB.connection() as connection:
            return await measured(self.name, connection.fetchval(sql, *arguments))

    async def all(self, *, timeout: float | None = None, **given: Any) -> list[Any]:  # noqa: ASYNC109 (asyncpg's own)
        """All rows as Records. Raises TimeoutError after ``timeout`` seconds."""
        sql, arguments = self._bind(given)
        async with DB.connection() as connection:
            fetch = partial(_fetch_replanned, connection) if self._replanned else connection.fetch
            return await measured(self.name, fetch(sql, *arguments, timeout=timeout))

    async def batches(self, connection: asyncpg.Connection, size: int, **given: Any) -> AsyncIterator[list[Any]]:
        """All rows as Records, in batches of up to ``size``. ``connection`` must be in a transaction."""
        sql, arguments = self._bind(given)
        cursor = await connection.cursor(sql, *arguments)
        while rows := await cursor.fetch(size):
            yield rows

    def _bind(self, given: Mapping[str, Any]) -> tuple[str, list[Any]]:
        sql, arguments = self._compiled
        return sql, [given[argument] if isinstance(argument, Param) else argument for argument in arguments]


async def _fetch_replanned(connection: Any, sql: str, *arguments: Any, timeout: float | None) -> list[Any]:  # noqa: ASYNC109
    return await (await connection.prepare(sql)).fetch(*arguments, timeout=timeout)  # type: ignore[no-any-return] # asyncpg


def name_of(query: object, write: Callable[..., Any]) -> str:
    """Where ``query`` is in the code: its module, and its variable there or else the function that creates it."""
    module = sys.modules[write.__module__]
    variable = next((name for name, value in vars(module).items() if value is query), None)
    return f"{module.__name__.removeprefix('service.')}.{variable or write.__qualname__.partition('.<locals>')[0]}"


NOW = QueryString("now()")


def insert(table: type[Table], *names: str, **fixed: Any) -> Query[Any, Any]:
    """An INSERT of one row, with a Param for each of ``names``.

    The times come from PostgreSQL: Piccolo would compute its defaults only once, when the query is written.
    """
    values: dict[str, Any] = {name: NOW for name in ("created_at", "updated_at") if hasattr(table, name)}
    values |= {name: Param(name) for name in names} | fixed
    return table.insert(table(**values))


def json_object(fields: Mapping[str, Selectable]) -> QueryString:
    """An expression that renders ``fields`` as one compact JSON object."""
    members = ", ".join(f'{{}} AS "{name}"' for name in fields)
    template = f"(SELECT to_json(item) FROM (SELECT {members}) AS item)"  # noqa: S608 (our own names, never a client's)
    return QueryString(template, *fields.values())


def utc(column: Column) -> QueryString:
    """``column`` in the form of all times in JSON: 2026-01-31T23:59:59.123456Z."""
    return QueryString('to_char({}, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')', column)


def written(change: Query[Any, Any], read: Query[Any, Any], *, also: QueryString | None = None) -> QueryString:
    """One statement that writes and reads: ``change`` and ``also`` write rows, and ``read`` selects from the rows that
    ``change`` wrote, as ``also`` may. ``read`` must select from the table of ``change``."""
    table = read.table
    changed = sql(change.returning(*table.all_columns()))  # type: ignore[attr-defined] # every query that writes has it
    name = table._meta.tablename
    if also is None:
        return QueryString(f'WITH "{name}" AS ({{}}) {{}}', changed, sql(read))
    return QueryString(f'WITH "{name}" AS ({{}}), also AS ({{}}) {{}}', changed, also, sql(read))


def text_query(text: str, *names: str) -> QueryString:
    """A query that Piccolo cannot build: SQL, and the names of the Params for its placeholders."""
    return QueryString(text, *map(Param, names))


def sql(query: Query[Any, Any]) -> QueryString:
    """``query`` as a part of another."""
    return query.querystrings[0]
