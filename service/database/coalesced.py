"""Several reads of one row that wait at the same time share one round trip."""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from piccolo.query import Query
from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.prepared import Param, Prepared, sql

MOST_TOGETHER = 16  # rows of one round trip: more would hardly cost less, and each may be large


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
