"""Lists: what a client may filter, sort and narrow them by, and the pages that answer.

A list's *shape* is which scopes, filters, sort keys and fields a request names; its values are parameters. Each shape's
statements are written once.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString, Selectable

from service.database.prepared import Prepared, json_object
from service.errors import BadRequest, Unauthorized, Violation
from service.lists.cursors import decode_cursor
from service.lists.statements import COUNTED, FEW, PAGES, Filter, Shape, SortKey, Source, Statements
from service.schemas import FieldsQuery, ListQuery, OwnerQuery

UNINDEXED_TIMEOUT = 1.0  # seconds, for a filter that no index and no owner bounds
MANY = FEW // 2  # matches, from which on the next page is tried on a bounded walk
GIVEN_UP = 60.0  # seconds without one, after one did not fill a page
_MOST_REMEMBERED = 1_000  # of up to 8 KiB each


class Rows(NamedTuple):
    """A page's rows, one more than its limit where there are more, and what its cursor and its body are made of."""

    rows: list[Any]
    keys: tuple[str, ...]  # the columns that hold the sort keys
    name: str  # of this list with these filters in this order: a cursor is good for no other
    total: int | None


class Listing:
    """A table's list: what it renders, and the allow-lists of what may be asked of it."""

    def __init__(
        self,
        table: Any,
        *,
        scopes: Mapping[str, Any],
        summary: Mapping[str, Selectable],
        fields: Mapping[str, Selectable] | None = None,
        expand: Mapping[str, Selectable] | None = None,
        filters: Mapping[str, Filter] | None = None,
        sorts: Mapping[str, SortKey] | None = None,
        default_sort: str = "-created_at",
        hidden: Sequence[str] = (),
    ) -> None:
        self.table = table
        self.summary = summary
        self.fields = fields or summary
        self.expand = expand or {}
        self.filters = filters or {}
        self.sorts = sorts or {"created_at": SortKey(table.created_at, datetime)}
        self.default_sort = (default_sort,)
        source = Source(table, scopes, self.filters, self.sorts, self._item, hidden)
        ranks = {name for name, key in self.sorts.items() if key.ranks}
        self._find = lru_cache(maxsize=500)(
            lambda shape: Prepared(
                lambda: Statements(source, shape).find(),
                replanned=not ranks.isdisjoint(name for name, _ in shape.sort),  # some words are in every row
            )
        )
        self._walk = lru_cache(maxsize=500)(lambda shape: Prepared(lambda: Statements(source, shape).walk()))
        self._plan = lru_cache(maxsize=200)(lambda shape: Prepared(lambda: Statements(source, shape).explain()))
        self._one = lru_cache(maxsize=200)(self._write_one)
        self._walkable_from: dict[Hashable, float] = {}  # of filters that matched many rows, on the monotonic clock

    async def owned_rows(self, query: OwnerQuery, user: UUID | None, filters: Mapping[str, Mapping[str, Any]]) -> Rows:
        """The page for a table whose rows have owners. The scopes follow from ``query.owner`` and the caller.

        ``user`` is None for an anonymous caller, for whom "others" would compare an owner with NULL.
        """
        if query.owner is None:
            return await self.rows(query, scopes=["mine", "others"] if user else ["public"], filters=filters, user=user)
        if query.owner == "me":
            if user is None:
                raise Unauthorized
            return await self.rows(query, scopes=["mine"], filters=filters, user=user)
        if query.owner == "platform":
            return await self.rows(query, scopes=["platform"], filters=filters, user=user)
        return await self.rows(query, scopes=["owner"], filters=filters, user=user, owner=query.owner)

    async def rows(
        self, query: ListQuery, *, scopes: Sequence[str], filters: Mapping[str, Mapping[str, Any]], **values: Any
    ) -> Rows:
        """The page that ``query`` asks for, of the rows in any of the disjoint ``scopes`` that pass all ``filters``
        (each with the values of its Params). Raises BadRequest for what no allow-list has, and for a foreign cursor."""
        sort = self._sort(query.sort or self.default_sort)
        shape = Shape(
            scopes=tuple(scopes),
            filters=tuple(sorted(filters)),
            sort=sort,
            fields=_allowed(query.fields, self.fields, "fields"),
            expand=_allowed(query.expand, self.expand, "expand"),
            after=query.cursor is not None,
            counted=query.count,
            limit=next(limit for limit in PAGES if query.limit <= limit),
        )
        asked = repr(sorted(filters.items()))
        name = f"({self.table._meta.tablename!r}, {shape.scopes}, {asked}, {sort}, {sorted(values.items())})"
        given = {param: value for params in filters.values() for param, value in params.items()}
        given |= values | {"limit": query.limit + 1}
        if query.cursor is not None:
            types = [*(self.sorts[key].type for key, _ in sort), UUID]
            keys = decode_cursor(query.cursor, name, types)
            given |= {f"after_{index}": key for index, key in enumerate(keys)}
        rows = await self._page(shape, asked, given)
        total = None
        if shape.counted and (rows or not shape.after):  # a page that became empty behind its cursor cannot tell
            total = rows[0]["total"] if rows else 0
        if shape.counted == "estimated" and total == COUNTED:
            total = max(COUNTED, await self._estimate(shape, given))
        return Rows(rows, (*(f"key_{index}" for index in range(len(sort))), "id"), name, total)

    def one(self, query: FieldsQuery, where: Any) -> Prepared:
        """The row ``where`` tells, whole unless ``query`` narrows or widens it. Compiled once for the same of both."""
        fields = _allowed(query.fields, self.fields, "fields") or tuple(self.fields)
        return self._one(fields, _allowed(query.expand, self.expand, "expand"), where)

    def _item(self, fields: Sequence[str], expand: Sequence[str]) -> QueryString:
        names = fields or tuple(self.summary)
        members = {"id": self.fields["id"]} | {name: self.fields[name] for name in names}
        return json_object(members | {name: self.expand[name] for name in expand})

    def _write_one(self, fields: Sequence[str], expand: Sequence[str], where: Any) -> Prepared:
        item = self._item(fields, expand).as_alias("item")
        return Prepared(lambda: self.table.select(self.table.id, self.table.version, item).where(where))

    async def _page(self, shape: Shape, asked: str, given: Mapping[str, Any]) -> list[Any]:
        """Matches are met on a bounded walk where they are known to be many, and it fills the page; else they are
        looked for. What is remembered only tells which to try first: the page is the same."""
        timeout = UNINDEXED_TIMEOUT if any(self.filters[name].unindexed for name in shape.filters) else None
        key = (shape.scopes, shape.sort, asked)
        walkable_from = self._walkable_from.get(key)
        if walkable_from is not None and walkable_from <= time.monotonic() and not shape.counted:
            rows = await self._walk(shape).all(**given, timeout=timeout)
            if len(rows) == given["limit"]:
                return rows
            if not shape.after:  # behind a cursor, it may only have come to the list's end
                self._walkable_from[key] = time.monotonic() + GIVEN_UP
        rows = await self._find(shape).all(**given, timeout=timeout)
        if walkable_from is None and rows and rows[0].get("found", 0) >= MANY:
            if len(self._walkable_from) >= _MOST_REMEMBERED:
                self._walkable_from.clear()
            self._walkable_from[key] = time.monotonic()
        return rows

    async def _estimate(self, shape: Shape, given: Mapping[str, Any]) -> int:
        plan = await self._plan(shape).value(**given)
        return int(msgspec.json.decode(plan)[0]["Plan"]["Plan Rows"])

    def _sort(self, names: Sequence[str]) -> tuple[tuple[str, bool], ...]:
        keys = tuple((name.removeprefix("-"), name.startswith("-")) for name in names)
        faults = [name for name, _ in keys if name not in self.sorts]
        if faults or len({name for name, _ in keys}) < len(keys):
            fault = Violation(f"Must be of {', '.join(self.sorts)}, each once, `-` descending.", parameter="sort")
            raise BadRequest("The request's parameters are not valid.", errors=[fault])
        return keys


def given_filters(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The filters that have a value, each with that of its one Param, which is named like it."""
    return {
        name: {name.replace(".", "_"): list(value) if isinstance(value, tuple) else value}
        for name, value in values.items()
        if value is not None
    }


def _allowed(names: Sequence[str] | None, among: Mapping[str, Any], parameter: str) -> tuple[str, ...]:
    if unknown := [name for name in names or () if name not in among]:
        fault = Violation(f"Unknown: {', '.join(unknown)[:200]}. There are: {', '.join(among)}.", parameter=parameter)
        raise BadRequest("The request's parameters are not valid.", errors=[fault])
    return tuple(sorted(set(names or ())))
