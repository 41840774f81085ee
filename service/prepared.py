"""Queries that Piccolo writes once, and that are run often.

Compiling SQL is what Piccolo's builder costs, and the text is the same each time. So each hot query is written in the
builder, compiled on first use and run with new parameters as a prepared statement; PostgreSQL renders the JSON::

    CHARACTER = Prepared(lambda: Character.select(json_object(…)).where(Character.id == Param("id")))
    row = await CHARACTER.one(id=character_id)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import Context
from functools import cached_property, partial
from typing import Any

import asyncpg
from piccolo.columns import Column
from piccolo.query import Query
from piccolo.querystring import QueryString, Selectable
from piccolo.table import Table

from service.database import DB

MOST_TOGETHER = 16  # rows of one round trip: more would hardly cost less, and each may be large


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


class Gathered:
    """A query for one row. Those who ask for one at the same moment share a round trip, which costs more than the rows.

    ``write`` gets what stands for each value in its query, by name; ``types`` are what PostgreSQL calls theirs.
    """

    def __init__(self, write: Callable[..., Query[Any, Any]], **types: str) -> None:
        self._types = types
        self._alone = Prepared(lambda: write(**{name: Param(name) for name in types}))
        self._together = Prepared(lambda: self._for_each(write))
        self._waiting: list[tuple[Mapping[str, Any], asyncio.Future[Any]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def one(self, **given: Any) -> Any:
        """The row as a Record, or None."""
        if DB.current_transaction.get() is not None:
            return await self._alone.one(**given)
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append((given, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._ask, context=Context())  # nobody's: it asks for all
        return await answer

    def _ask(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), MOST_TOGETHER):
            task = asyncio.create_task(self._answer(waiting[first : first + MOST_TOGETHER]))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _answer(self, asked: list[tuple[Mapping[str, Any], asyncio.Future[Any]]]) -> None:
        rows: dict[int, Any] = {}
        try:
            if len(asked) == 1:
                rows[1] = await self._alone.one(**asked[0][0])
            else:
                values: dict[str, Any] = {name: [given[name] for given, _ in asked] for name in self._types}
                rows = {row["place"]: row for row in await self._together.all(**values)}
        except Exception as error:
            for _, answer in asked:
                if not answer.done():  # whoever left meanwhile
                    answer.set_exception(error)
        else:
            for place, (_, answer) in enumerate(asked, 1):
                if not answer.done():
                    answer.set_result(rows.get(place))

    def _for_each(self, write: Callable[..., Query[Any, Any]]) -> QueryString:
        arrays = ", ".join(f"{{}}::{kind}[]" for kind in self._types.values())
        asked = f"unnest({arrays}) WITH ORDINALITY AS asked ({', '.join(self._types)}, place)"
        query = write(**{name: QueryString(f"asked.{name}") for name in self._types})
        template = f"SELECT place, found.* FROM {asked}, LATERAL ({{}}) AS found"  # noqa: S608 (our own names)
        return QueryString(template, *map(Param, self._types), sql(query))


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
