"""Lists: the allow-lists of filters, sort keys and fields, and the pages.

The *shape* of a request is the names of its scopes, filters, sort keys and fields; the values are parameters. The SQL
of each shape is written once.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString, Selectable

from service.database.prepared import Prepared, json_object
from service.errors import Unauthorized
from service.lists.cursors import decode_cursor
from service.lists.filters import Filters
from service.lists.sizes import is_exceeded
from service.lists.statements import (
    MAX_COUNTED,
    MAX_SORTED,
    PAGE_SIZES,
    Filter,
    Shape,
    SortKey,
    Source,
    Statements,
)
from service.parameters import FieldsQuery, ListQuery, OwnerQuery
from service.schemas import check_members, check_same

UNINDEXED_TIMEOUT = 1.0  # seconds, for an unindexed filter

# A worker remembers which lists have many matches. For them it tries a bounded page first: rows are tested in the
# list's order until the page is full, instead of finding and sorting up to 1,000 matches. If the page is not full, the
# ordinary page answers. Measured with the workloads of benchmarks.compare (100,000 characters, five alternating
# rounds): "filtered" answers 2.0 to 2.7 times as many requests as without bounded pages, "full-text" 1.3 to 1.6 times.
# In the same rounds, "filtered" answers 1.3 to 1.6 times as many as plain Litestar + Piccolo, "full-text" 1.4 to 1.8
# times; without bounded pages, 0.6 to 0.8 and 0.9 to 1.3 times.
BOUNDED_FROM = MAX_SORTED // 2  # matches
RETRY_AFTER = 60.0  # seconds without bounded pages, after one was not full
_MAX_REMEMBERED = 1_000  # lists, of up to 8 KiB each


class Rows(NamedTuple):
    """The rows of a page, with their sizes (service/lists/sizes.py). One row more than the page shows means that there
    is a next page."""

    rows: list[Any]
    keys: tuple[str, ...]  # the columns of the sort keys
    name: str  # of the list with these filters in this order: its cursors are valid for no other list
    total: int | None


class Listing:
    """The list of a table: how its rows are rendered, and its allow-lists.

    Raises TypeError unless each parameter of ``query`` has its filter, each of its sort keys and expanded members its
    expression, and so has each member: ``summary`` renders ``item``, and ``fields`` (by default the same) render
    ``query.whole``.
    """

    def __init__(
        self,
        table: Any,
        *,
        query: type[ListQuery],
        item: type[msgspec.Struct],
        scopes: Mapping[str, Any],
        summary: Mapping[str, Selectable],
        fields: Mapping[str, Selectable] | None = None,
        expand: Mapping[str, Selectable] | None = None,
        filters: Mapping[str, Filter | Mapping[Any, Filter]] | None = None,
        open_filter: Callable[[str], Filter] | None = None,
        sorts: Mapping[str, SortKey] | None = None,
        default_sort: str = "-created_at",
        hidden: Sequence[str] = (),
    ) -> None:
        check_members(item, summary, "what its list renders")
        check_members(query.whole, fields or summary, "what its list can render")
        self.table = table
        self.summary = summary
        self.fields = fields or summary
        self.expand = expand or {}
        self.filters = Filters(query, filters or {}, open_filter)
        self.sorts = sorts or {"created_at": SortKey(table.created_at, datetime)}
        self.default_sort = (default_sort,)
        check_same(query, query.expanded, self.expand, "what its list can expand")
        check_same(query, query.sorts, self.sorts, "the sort keys of its list")
        source = Source(table, scopes, self.filters, self.sorts, self._item, hidden)
        ranks = {name for name, key in self.sorts.items() if key.ranks}
        self.name = name = f"lists.{query.__name__}"  # for logs and traces
        self._page_of = lru_cache(maxsize=500)(
            lambda shape: Prepared(
                lambda: Statements(source, shape).page(),
                name=f"{name}.page",
                # The best plan of a ranked search depends on its words: some are in every row.
                replanned=not ranks.isdisjoint(name for name, _ in shape.sort),
            )
        )
        self._bounded_page_of = lru_cache(maxsize=500)(
            lambda shape: Prepared(lambda: Statements(source, shape).bounded_page(), name=f"{name}.bounded_page")
        )
        self._estimate_of = lru_cache(maxsize=200)(
            lambda shape: Prepared(lambda: Statements(source, shape).estimate(), name=f"{name}.estimate")
        )
        self._one = lru_cache(maxsize=200)(self._write_one)
        # Lists with many matches, and the monotonic time from which a bounded page is tried.
        self._bounded_since: dict[Hashable, float] = {}

    async def owned_rows(self, query: OwnerQuery, user: UUID | None) -> Rows:
        """The page for a table whose rows have owners. The scopes follow from the owner in ``query`` and from ``user``,
        which is None for an anonymous caller."""
        if query.owner_id is not None:
            return await self.rows(query, scopes=["owner_id"], user=user, owner_id=query.owner_id)
        if query.owner is None:
            return await self.rows(query, scopes=["mine", "others"] if user else ["public"], user=user)
        if query.owner == "me":
            if user is None:
                raise Unauthorized
            return await self.rows(query, scopes=["mine"], user=user)
        if query.owner == "platform":
            return await self.rows(query, scopes=["platform"], user=user)
        return await self.rows(query, scopes=["owner"], user=user, owner=query.owner.lower())

    async def rows(self, query: ListQuery, *, scopes: Sequence[str], **values: Any) -> Rows:
        """The page of the rows that are in one of the disjoint ``scopes`` and match all filters of ``query``.

        ``values`` are those of the scopes' Params. Raises BadRequest for the cursor of another list.
        """
        filters = self.filters.given(query)
        sort = _sort(query.sort or self.default_sort)
        shape = Shape(
            scopes=tuple(scopes),
            filters=tuple(sorted(filters)),
            sort=sort,
            fields=_names(query.fields),
            expand=_names(query.expand),
            after=query.cursor is not None,
            counted=query.count,
            limit=next(limit for limit in PAGE_SIZES if query.limit <= limit),
        )
        matching = repr(sorted(filters.items()))
        name = f"({self.table._meta.tablename!r}, {shape.scopes}, {matching}, {sort}, {sorted(values.items())})"
        given = {param: value for params in filters.values() for param, value in params.items()}
        given |= values | {"limit": query.limit + 1}
        if query.cursor is not None:
            types = [*(self.sorts[key].type for key, _ in sort), UUID]
            keys = decode_cursor(query.cursor, name, types)
            given |= {f"after_{index}": key for index, key in enumerate(keys)}
        rows = await self._page(shape, matching, given)
        total = None
        if shape.counted and (rows or not shape.after):  # an empty page behind a cursor has no row that holds it
            total = rows[0]["total"] if rows else 0
        if shape.counted == "estimated" and total == MAX_COUNTED:
            total = max(MAX_COUNTED, await self._estimate(shape, given))
        return Rows(rows, (*(f"key_{index}" for index in range(len(sort))), "id"), name, total)

    def one(self, query: FieldsQuery, where: Any) -> Prepared:
        """The row that matches ``where``, with the fields of ``query`` (by default all). Compiled once for each."""
        return self._one(_names(query.fields) or tuple(self.fields), _names(query.expand), where)

    def _item(self, fields: Sequence[str], expand: Sequence[str]) -> QueryString:
        names = fields or tuple(self.summary)
        members = {"id": self.fields["id"]} | {name: self.fields[name] for name in names}
        return json_object(members | {name: self.expand[name] for name in expand})

    def _write_one(self, fields: Sequence[str], expand: Sequence[str], where: Any) -> Prepared:
        item = self._item(fields, expand).as_alias("item")
        return Prepared(
            lambda: self.table.select(self.table.id, self.table.version, item).where(where), name=f"{self.name}.one"
        )

    async def _page(self, shape: Shape, matching: str, given: Mapping[str, Any]) -> list[Any]:
        """The same rows, whichever statement answers."""
        timeout = UNINDEXED_TIMEOUT if any(self.filters[name].unindexed for name in shape.filters) else None
        key = (shape.scopes, shape.sort, matching)
        bounded_since = self._bounded_since.get(key)
        if bounded_since is not None and bounded_since <= time.monotonic() and not shape.counted:
            rows = await self._bounded_page_of(shape).all(**given, timeout=timeout)
            if len(rows) == given["limit"] or is_exceeded(rows):
                return rows
            if not shape.after:  # behind a cursor, the list may just end here
                self._bounded_since[key] = time.monotonic() + RETRY_AFTER
        rows = await self._page_of(shape).all(**given, timeout=timeout)
        if bounded_since is None and rows and rows[0].get("found", 0) >= BOUNDED_FROM:
            if len(self._bounded_since) >= _MAX_REMEMBERED:
                self._bounded_since.clear()
            self._bounded_since[key] = time.monotonic()
        return rows

    async def _estimate(self, shape: Shape, given: Mapping[str, Any]) -> int:
        plan = await self._estimate_of(shape).value(**given)
        return int(msgspec.json.decode(plan)[0]["Plan"]["Plan Rows"])


def _sort(names: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """The sort keys, each with whether it descends."""
    return tuple((name.removeprefix("-"), name.startswith("-")) for name in names)


def _names(names: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(sorted(set(names or ())))
