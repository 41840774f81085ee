"""Lists: what a client may filter, sort and narrow them by, and the one statement that answers.

A list's *shape* is which scopes, filters, sort keys and fields a request names; its values are parameters. Each shape
is compiled once. Every scope (mine, everyone's public rows) is a keyset scan of its own, as PostgreSQL would read far
more rows for an OR of them; their union takes the table's name, so that the select that renders a row need not know.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString, Selectable

from service.database import Param, Prepared, json_object, sql
from service.errors import BadRequest, Violation
from service.paging import decode_cursor
from service.parameters import FieldsQuery, ListQuery

COUNTED = 10_000  # where counting stops
PAGES = (20, 100)  # a list's statement is written for one of these limits, as PostgreSQL plans for rows it can count
FEW = 1_000  # matches of a selective filter are sorted, up to so many; more are met on a walk through the sort's index
_FEW, _HOW_MANY = QueryString(str(FEW)), QueryString("(SELECT count(*) FROM few)")
UNINDEXED_TIMEOUT = 1.0  # seconds, for a filter that no index and no owner bounds


class SortKey(NamedTuple):
    expression: Any
    type: Any  # of its value in a cursor
    ranks: bool = False  # no index has it: the newest FEW hits are sorted by it


class Filter(NamedTuple):
    """A condition on Params. A selective one can match few rows among many, and has an index that finds them, in the
    order of ``column`` where there is one; an unindexed one may have to look at every row."""

    condition: Any
    selective: bool = False
    unindexed: bool = False
    column: Any = None


class Shape(NamedTuple):
    scopes: tuple[str, ...]
    filters: tuple[str, ...]
    sort: tuple[tuple[str, bool], ...]  # a key's name, and whether it descends
    fields: tuple[str, ...]
    expand: tuple[str, ...]
    after: bool
    counted: Literal["exact", "estimated"] | None
    limit: int  # of PAGES


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
        self.scopes = scopes
        self.summary = summary
        self.fields = fields or summary
        self.expand = expand or {}
        self.filters = filters or {}
        self.sorts = sorts or {"created_at": SortKey(self.table.created_at, datetime)}
        self.default_sort = (default_sort,)
        self.hidden = [QueryString(f'"{self.table._meta.tablename}"."{name}"', alias=name) for name in hidden]
        self._prepared = lru_cache(maxsize=500)(lambda shape: Prepared(lambda: self._write(shape)))
        self._plan = lru_cache(maxsize=200)(lambda scopes, filters: Prepared(lambda: self._explain(scopes, filters)))
        self._one = lru_cache(maxsize=200)(self._write_one)

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
        name = repr((self.table._meta.tablename, shape.scopes, sorted(filters.items()), sort, sorted(values.items())))
        given = {param: value for params in filters.values() for param, value in params.items()}
        given |= values | {"limit": query.limit + 1}
        if query.cursor is not None:
            types = [*(self.sorts[key].type for key, _ in sort), UUID]
            keys = decode_cursor(query.cursor, name, types)
            given |= {f"after_{index}": key for index, key in enumerate(keys)}
        slow = any(self.filters[filter_name].unindexed for filter_name in filters)
        rows = await self._prepared(shape).all(**given, timeout=UNINDEXED_TIMEOUT if slow else None)
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

    def _write(self, shape: Shape) -> QueryString:
        keys = [(self.sorts[name].expression, descending) for name, descending in shape.sort]
        keys.append((self.table.id, keys[0][1]))
        conditions = [self.filters[name].condition for name in shape.filters]
        scopes = [self.scopes[name] for name in shape.scopes]
        ranked = any(self.sorts[name].ranks for name, _ in shape.sort)
        after = _after(keys) if shape.after else None
        walk = [(self.table.created_at, True), (self.table.id, True)] if ranked else keys
        most = FEW if ranked else shape.limit + 1
        parts: dict[str, QueryString] = {}
        if shape.counted:
            parts["counted"] = self._count(scopes, conditions)
        in_walk = [condition for condition in (*conditions, None if ranked else after) if condition is not None]
        selective = [self.filters[name] for name in shape.filters if self.filters[name].selective]
        selective = [found for found in selective if found.column is None or found.column is not walk[0][0]]
        if selective:
            parts["few"] = self._find_few(scopes, conditions, selective)
            in_walk.append(WhereRaw("{} > {}", _HOW_MANY, _FEW))
        scans = [self._scan([scope, *in_walk], walk, most) for scope in scopes]
        if "few" in parts:
            scans.append(self._sort_few(None if ranked else after, walk, most))
        name = self.table._meta.tablename
        parts[name] = QueryString(" UNION ALL ".join(["{}"] * len(scans)), *scans)
        page = self._page(shape, keys, after if ranked else None)
        ctes = ", ".join(f'"{part}" AS {"MATERIALIZED " if part == "few" else ""}({{}})' for part in parts)
        return QueryString(f"WITH {ctes} {{}} LIMIT {{}}", *parts.values(), page, Param("limit"))

    def _scan(self, conditions: Sequence[Any], keys: Sequence[tuple[Any, bool]], most: int) -> QueryString:
        rows = self.table.select(*self.table.all_columns(), *self.hidden).where(*conditions)
        return QueryString(f"({{}} ORDER BY {{}} LIMIT {most})", sql(rows), _order(keys))

    def _find_few(self, scopes: Sequence[Any], conditions: Sequence[Any], by: Sequence[Filter]) -> QueryString:
        """All matches, or enough of them to know that they are not few. An order that only a column's index has keeps
        PostgreSQL from looking for them elsewhere."""
        columns = [found.column for found in by]
        if all(column is not None for column in columns):
            order = [(columns[0], False), (self.table.id, False)]
            scans = [self._scan([scope, *conditions], order, FEW + 1) for scope in scopes]
            return QueryString(" UNION ALL ".join(["{}"] * len(scans)), *scans)
        anywhere = scopes[0]
        for scope in scopes[1:]:
            anywhere = anywhere | scope
        rows = self.table.select(*self.table.all_columns(), *self.hidden).where(*conditions, anywhere)
        return QueryString(f"{{}} LIMIT {FEW + 1}", sql(rows))

    def _sort_few(self, after: Any, keys: Sequence[tuple[Any, bool]], most: int) -> QueryString:
        name = self.table._meta.tablename
        where = QueryString("{} <= {}", _HOW_MANY, _FEW)
        if after is not None:
            where = QueryString("{} AND {}", where, after.querystring)
        template = f'(SELECT * FROM few AS "{name}" WHERE {{}} ORDER BY {{}} LIMIT {most})'  # noqa: S608 (our own names)
        return QueryString(template, where, _order(keys))

    def _count(self, scopes: Sequence[Any], conditions: Sequence[Any]) -> QueryString:
        hits = self._hits(scopes, conditions, f"({{}} LIMIT {COUNTED})")
        return QueryString("SELECT least(count(*), {}) AS total FROM ({}) AS hits", COUNTED, hits)

    async def _estimate(self, shape: Shape, given: Mapping[str, Any]) -> int:
        """How many rows PostgreSQL expects, from its statistics alone."""
        plan = await self._plan(shape.scopes, shape.filters).value(**given)
        return int(msgspec.json.decode(plan)[0]["Plan"]["Plan Rows"])

    def _explain(self, scopes: Sequence[str], filters: Sequence[str]) -> QueryString:
        conditions = [self.filters[name].condition for name in filters]
        hits = self._hits([self.scopes[name] for name in scopes], conditions, "({})")
        return QueryString("EXPLAIN (FORMAT JSON) {}", hits)

    def _hits(self, scopes: Sequence[Any], conditions: Sequence[Any], each: str) -> QueryString:
        scans = [QueryString(each, sql(self.table.select(self.table.id).where(scope, *conditions))) for scope in scopes]
        return QueryString(" UNION ALL ".join(["{}"] * len(scans)), *scans)

    def _page(self, shape: Shape, keys: Sequence[tuple[Any, bool]], after: Any) -> QueryString:
        columns = [self._item(shape.fields, shape.expand).as_alias("item"), self.table.id]
        for index, (expression, _) in enumerate(keys[:-1]):
            columns.append(QueryString("{}", expression, alias=f"key_{index}"))
        if shape.counted:
            columns.append(QueryString("(SELECT total FROM counted)", alias="total"))
        rows = self.table.select(*columns)
        if after is not None:
            rows = rows.where(after)
        return QueryString("{} ORDER BY {}", sql(rows), _order(keys))

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


def _order(keys: Sequence[tuple[Any, bool]]) -> QueryString:
    parts = ", ".join(f"{{}} {'DESC' if descending else 'ASC'}" for _, descending in keys)
    return QueryString(parts, *(expression for expression, _ in keys))


def _after(keys: Sequence[tuple[Any, bool]]) -> WhereRaw:
    """Rows behind those values of the keys, in their order."""
    expressions = [expression for expression, _ in keys]
    values = [Param(f"after_{index}") for index in range(len(keys))]
    directions = {descending for _, descending in keys}
    if len(directions) == 1:
        row = ", ".join(["{}"] * len(keys))
        return WhereRaw(f"({row}) {'<' if directions.pop() else '>'} ({row})", *expressions, *values)
    cases, arguments = [], []
    for index, (expression, descending) in enumerate(keys):
        cases.append(" AND ".join(["{} = {}"] * index + [f"{{}} {'<' if descending else '>'} {{}}"]))
        for earlier in range(index):
            arguments += [expressions[earlier], values[earlier]]
        arguments += [expression, values[index]]
    return WhereRaw(f"(({') OR ('.join(cases)}))", *arguments)
