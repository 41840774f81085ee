"""The SQL of one page of a list.

Each scope ("mine", "public ones of others") is a keyset query of its own, because PostgreSQL reads far more rows for an
OR of scopes. The union of these queries takes the table's name, so the SELECT that renders a row is the same for all.

``Statements.page`` answers any page. ``Statements.bounded_page`` answers faster where many rows match, but may not fill
the page; service/lists/listing.py says when it is tried.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple, Protocol

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.database.prepared import Param, sql
from service.lists.keyset import Key, key_columns, order_by, rows_after
from service.lists.sizes import within_page

MAX_COUNTED = 10_000  # counting stops here
PAGE_SIZES = (20, 100)  # each page is planned for one of these sizes: PostgreSQL needs a literal LIMIT
MAX_SORTED = 1_000  # matches of a selective filter that are sorted; with more, the page is read in the list's order
MAX_READ_PER_ROW = 200  # rows that a bounded page reads for each row of the page


class SortKey(NamedTuple):
    expression: Any
    type: Any  # of the value in a cursor
    reads: tuple[Any, ...] = ()  # the columns in the expression; empty if the expression is a column
    ranks: bool = False  # no index has this order: the newest MAX_SORTED matches are sorted


class Filter(NamedTuple):
    """A condition on Params.

    ``selective``: the filter may match few rows of many, and has an index that finds them. ``column``: that index is
    in the order of this column. ``unindexed``: the filter may have to test every row.
    ``row_test``: the form of the condition that is cheaper to test on single rows; it may read ``ctes``.
    ``scopes``: those in which it may match; all by default.
    ``alternatives``: conditions with an index each. They exclude each other; any of them is the condition.
    ``prepare``: makes the value of the Param from that of the request.
    """

    condition: Any
    selective: bool = False
    unindexed: bool = False
    column: Any = None
    row_test: Any = None
    ctes: Mapping[str, QueryString] = {}
    alternatives: tuple[Any, ...] = ()
    scopes: frozenset[str] | None = None
    prepare: Callable[[Any], Any] | None = None


class Shape(NamedTuple):
    """The parts of a request that change the SQL. All else is a parameter."""

    scopes: tuple[str, ...]
    filters: tuple[str, ...]
    sort: tuple[tuple[str, bool], ...]  # name, whether it descends
    fields: tuple[str, ...]
    expand: tuple[str, ...]
    after: bool
    counted: Literal["exact", "estimated"] | None
    limit: int  # one of PAGE_SIZES


class FilterByName(Protocol):
    def __getitem__(self, name: str, /) -> Filter: ...


class Source(NamedTuple):
    """A table, and the allow-lists of its list. ``item`` renders a row as JSON. ``hidden`` columns are unknown to
    Piccolo."""

    table: Any
    scopes: Mapping[str, Any]
    filters: FilterByName
    sorts: Mapping[str, SortKey]
    item: Callable[[Sequence[str], Sequence[str]], QueryString]
    hidden: Sequence[str]


class Statements:
    """The SQL for pages of one shape."""

    def __init__(self, source: Source, shape: Shape) -> None:
        self.shape = shape
        self.table = source.table
        self.name = source.table._meta.tablename
        self.item = source.item(shape.fields, shape.expand)
        self.filters = [source.filters[name] for name in shape.filters]
        read = [name for name in shape.scopes if all(name in (each.scopes or {name}) for each in self.filters)]
        self.scopes = [source.scopes[name] for name in read] or [WhereRaw("false")]
        self.sorts = [source.sorts[name] for name, _ in shape.sort]
        directions = [descending for _, descending in shape.sort]
        self.keys = [(key.expression, descends) for key, descends in zip(self.sorts, directions, strict=True)]
        self.keys.append((self.table.id, directions[0]))
        self.after = [rows_after(self.keys)] if shape.after else []
        self.columns = [
            *self.table.all_columns(),
            *(QueryString(f'"{self.name}"."{hidden}"', alias=hidden) for hidden in source.hidden),
        ]
        self.ctid = QueryString(f'"{self.name}"."ctid"', alias="ctid")
        self.limit = shape.limit + 1
        self.is_ranked = any(key.ranks for key in self.sorts)
        self.conditions = [each.condition for each in self.filters]
        self.row_tests = [each.condition if each.row_test is None else each.row_test for each in self.filters]

    def page(self) -> QueryString:
        """The page. Up to MAX_SORTED matches are found by the filters' indexes and sorted. With more matches, rows are
        read in the list's order until the page is full."""
        if self.is_ranked:
            return self._ranked_page()
        selective = [each for each in self.filters if each.selective]
        selective = [each for each in selective if each.column is None or each.column is not self.keys[0][0]]
        if not selective:
            rows = self._all_scopes([*self.row_tests, *self.after], self.keys, self.limit, self.columns)
            return self._rendered({self.name: rows}, self.keys)
        columns, found = self._sorting_columns(), QueryString("(SELECT total FROM found)")
        many, few = WhereRaw(f"{{}} > {MAX_SORTED}", found), WhereRaw(f"{{}} <= {MAX_SORTED}", found)
        in_order = self._all_scopes([*self.row_tests, *self.after, many], self.keys, self.limit, columns)
        by_index = self._first(self.limit, QueryString("TABLE matches"), self.keys, [few, *self.after])
        parts = {
            "matches": self._matches(selective, columns),
            "found": QueryString("SELECT count(*) AS total FROM matches"),
            "page": self._first(self.limit, _union([in_order, QueryString("({})", by_index)]), self.keys),
            self.name: self._all_columns_of("page"),
        }
        return self._rendered(parts, self.keys, found)

    def bounded_page(self) -> QueryString:
        """The matches among the next MAX_READ_PER_ROW * limit rows in the list's order; a page that is not full is
        incomplete.

        PostgreSQL moves no filter below a LIMIT and cannot estimate a CASE. So it reads these rows and no others,
        tests the filters in the given order, and keeps one plan for all values.
        """
        most = MAX_READ_PER_ROW * self.limit
        keys = [(QueryString(f'"{self.name}"."key_{index}"'), key[1]) for index, key in enumerate(self.keys[:-1])]
        keys.append(self.keys[-1])
        rows = self._all_scopes(self.after, self.keys, most, [self.ctid, *self.columns, *key_columns(self.keys)])
        if len(self.scopes) > 1:
            rows = self._first(most, rows, keys)
        matches = WhereRaw("CASE WHEN {} THEN true END", _all(self.row_tests))
        page = self._first(self.limit, rows, keys, [matches])
        return self._rendered({"page": page, self.name: self._all_columns_of("page")}, self.keys)

    def estimate(self) -> QueryString:
        """The number of matches that PostgreSQL expects, from its statistics alone."""
        return QueryString("EXPLAIN (FORMAT JSON) {}", self._ids("({})"))

    def _ranked_page(self) -> QueryString:
        """The best of the newest matches. Each alternative of a filter is a query of its own: for an OR of them,
        PostgreSQL might read the newest rows and run an expensive test on each."""
        newest = [(self.table.created_at, True), (self.table.id, True)]
        columns = self._sorting_columns(self.table.created_at)
        alternatives = list(product(*(each.alternatives or (each.condition,) for each in self.filters)))
        matches = []
        for scope in self.scopes:
            found = _union([self._one_scope([scope, *each], newest, MAX_SORTED, columns) for each in alternatives])
            matches.append(QueryString("({})", self._first(MAX_SORTED, found, newest)))
        page = self._first(self.limit, _union(matches), self.keys, self.after)
        return self._rendered({"page": page, self.name: self._all_columns_of("page")}, self.keys)

    def _matches(self, selective: Sequence[Filter], columns: Sequence[Any]) -> QueryString:
        """All matches, at most MAX_SORTED + 1. If all selective filters are on ordered columns, the order of the first
        column makes PostgreSQL use its index."""
        most = MAX_SORTED + 1
        if all(each.column is not None for each in selective):
            return self._all_scopes(
                self.conditions, [(selective[0].column, False), (self.table.id, False)], most, columns
            )
        any_scope = self.scopes[0]
        for scope in self.scopes[1:]:
            any_scope = any_scope | scope
        return QueryString(f"{{}} LIMIT {most}", sql(self.table.select(*columns).where(*self.conditions, any_scope)))

    def _all_scopes(
        self, conditions: Sequence[Any], keys: Sequence[Key], most: int, columns: Sequence[Any]
    ) -> QueryString:
        return _union([self._one_scope([scope, *conditions], keys, most, columns) for scope in self.scopes])

    def _one_scope(
        self, conditions: Sequence[Any], keys: Sequence[Key], most: int, columns: Sequence[Any]
    ) -> QueryString:
        rows = self.table.select(*columns).where(*conditions)
        return QueryString(f"({{}} ORDER BY {{}} LIMIT {most})", sql(rows), order_by(keys))

    def _first(self, most: int, rows: QueryString, keys: Sequence[Key], conditions: Sequence[Any] = ()) -> QueryString:
        template = f'SELECT * FROM ({{}}) AS "{self.name}" WHERE {{}} ORDER BY {{}} LIMIT {most}'  # noqa: S608 (our own names)
        return QueryString(template, rows, _all(conditions), order_by(keys))

    def _all_columns_of(self, part: str) -> QueryString:
        """All columns, read for the rows of ``part`` only, by ``ctid``."""
        template = f'SELECT "{self.name}".* FROM {part} JOIN "{self.name}" ON "{self.name}".ctid = {part}.ctid'  # noqa: S608 (our own names)
        return QueryString(template)

    def _sorting_columns(self, *also: Any) -> list[Any]:
        columns = [
            self.ctid,
            self.table.id,
            *also,
            *(column for key in self.sorts for column in key.reads or (key.expression,)),
        ]
        return list({id(column): column for column in columns}.values())

    def _ids(self, each: str) -> QueryString:
        """The ids of all matches; ``each`` is a template around the query of one scope."""
        matches = [self.table.select(self.table.id).where(scope, *self.conditions) for scope in self.scopes]
        return _union([QueryString(each, sql(rows)) for rows in matches])

    def _rendered(
        self,
        parts: Mapping[str, QueryString],
        keys: Sequence[Key],
        found: QueryString | None = None,
    ) -> QueryString:
        ctes = {name: cte for each in self.filters for name, cte in each.ctes.items()}
        columns = {"item": self.item.as_alias("item"), "id": self.table.id}
        columns |= {f"key_{index}": column for index, column in enumerate(key_columns(keys))}
        if self.shape.counted:
            ids = self._ids(f"({{}} LIMIT {MAX_COUNTED})")
            ctes["counted"] = QueryString("SELECT least(count(*), {}) AS total FROM ({}) AS ids", MAX_COUNTED, ids)
            columns["total"] = QueryString("(SELECT total FROM counted)", alias="total")
        if found is not None:
            columns["found"] = QueryString("{}", found, alias="found")
        ctes |= parts
        names = ", ".join(f'"{name}" AS ({{}})' for name in ctes)
        selected = sql(self.table.select(*columns.values()))
        rows = QueryString("{} ORDER BY {} LIMIT {}", selected, order_by(keys), Param("limit"))
        return QueryString(f"WITH {names} {{}}", *ctes.values(), within_page(rows, columns))


def _union(queries: Sequence[QueryString]) -> QueryString:
    return QueryString(" UNION ALL ".join(["{}"] * len(queries)), *queries)


def _all(conditions: Sequence[Any]) -> QueryString:
    return QueryString(" AND ".join(["{}"] * len(conditions)) or "true", *(each.querystring for each in conditions))
