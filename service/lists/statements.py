"""The statements that answer a list.

Every scope (mine, everyone's public rows) is a keyset scan of its own, as PostgreSQL would read far more rows for an OR
of them; their union takes the table's name, so that the select that renders a row need not know. Rows that pass a
selective filter are met on a walk through the sort's index, or found through the filter's own: there is a statement for
each way.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.database.prepared import Param, sql

COUNTED = 10_000  # where counting stops
PAGES = (20, 100)  # a list's statement is written for one of these limits, as PostgreSQL plans for rows it can count
FEW = 1_000  # matches of a selective filter are sorted, up to so many; more are met on a walk
WALKED = 200  # rows for each one of a page, after which a bounded walk ends

Key = tuple[Any, bool]  # an expression, and whether it descends


class SortKey(NamedTuple):
    expression: Any
    type: Any  # of its value in a cursor
    reads: tuple[Any, ...] = ()  # the columns in the expression; none: it is one itself
    ranks: bool = False  # no index has it: the newest FEW hits are sorted by it


class Filter(NamedTuple):
    """A condition on Params. A selective one can match few rows among many, and has an index that finds them, in the
    order of ``column`` where there is one; an unindexed one may have to look at every row.

    ``met`` is the condition as it is best asked of row after row, with the help of ``ctes``. ``ways`` are conditions of
    an index each that exclude each other, and are the condition together."""

    condition: Any
    selective: bool = False
    unindexed: bool = False
    column: Any = None
    met: Any = None
    ctes: Mapping[str, QueryString] = {}
    ways: tuple[Any, ...] = ()


class Shape(NamedTuple):
    scopes: tuple[str, ...]
    filters: tuple[str, ...]
    sort: tuple[tuple[str, bool], ...]  # a key's name, and whether it descends
    fields: tuple[str, ...]
    expand: tuple[str, ...]
    after: bool
    counted: Literal["exact", "estimated"] | None
    limit: int  # of PAGES


class Source(NamedTuple):
    """What a table's lists are made of. ``item`` renders a row; ``hidden`` columns are none of Piccolo's."""

    table: Any
    scopes: Mapping[str, Any]
    filters: Mapping[str, Filter]
    sorts: Mapping[str, SortKey]
    item: Callable[[Sequence[str], Sequence[str]], QueryString]
    hidden: Sequence[str]


class Statements:
    """For pages of one shape."""

    def __init__(self, source: Source, shape: Shape) -> None:
        self.shape = shape
        self.table = source.table
        self.name = source.table._meta.tablename
        self.item = source.item(shape.fields, shape.expand)
        self.scopes = [source.scopes[name] for name in shape.scopes]
        self.filters = [source.filters[name] for name in shape.filters]
        self.sorts = [source.sorts[name] for name, _ in shape.sort]
        directions = [descending for _, descending in shape.sort]
        self.keys = [(key.expression, descends) for key, descends in zip(self.sorts, directions, strict=True)]
        self.keys.append((self.table.id, directions[0]))
        self.after = [_after(self.keys)] if shape.after else []
        self.columns = [
            *self.table.all_columns(),
            *(QueryString(f'"{self.name}"."{hidden}"', alias=hidden) for hidden in source.hidden),
        ]
        self.place = QueryString(f'"{self.name}"."ctid"', alias="ctid")
        self.limit = shape.limit + 1
        self.is_ranked = any(key.ranks for key in self.sorts)
        self.conditions = [each.condition for each in self.filters]
        self.met = [each.condition if each.met is None else each.met for each in self.filters]

    def walk(self) -> QueryString:
        """What passes among the next rows in order. Of a page that is not full, the rest may be further on.

        PostgreSQL moves no filter below a limit, and cannot guess how many pass a CASE: it reads those rows and no
        others, whatever the values are, asks the filters in their order, and soon keeps one plan for all values.
        """
        most = WALKED * self.limit
        keys = [(QueryString(f'"{self.name}"."key_{place}"'), key[1]) for place, key in enumerate(self.keys[:-1])]
        keys.append(self.keys[-1])
        rows = self._scans(self.after, self.keys, most, [self.place, *self.columns, *_named(self.keys)])
        if len(self.scopes) > 1:
            rows = self._first(most, rows, keys)
        passes = WhereRaw("CASE WHEN {} THEN true END", _all(self.met))
        page = self._first(self.limit, rows, keys, [passes])
        return self._rendered({"page": page, self.name: self._whole("page")}, self.keys)

    def find(self) -> QueryString:
        """What passes: of a few matches the first in order, of more what is met on a walk, as long as it takes."""
        if self.is_ranked:
            return self._rank()
        selective = [each for each in self.filters if each.selective]
        selective = [each for each in selective if each.column is None or each.column is not self.keys[0][0]]
        if not selective:
            walk = self._scans([*self.met, *self.after], self.keys, self.limit, self.columns)
            return self._rendered({self.name: walk}, self.keys)
        columns, found = self._columns_of_keys(), QueryString("(SELECT total FROM found)")
        many, few = WhereRaw(f"{{}} > {FEW}", found), WhereRaw(f"{{}} <= {FEW}", found)
        walk = self._scans([*self.met, *self.after, many], self.keys, self.limit, columns)
        first = self._first(self.limit, QueryString("TABLE few"), self.keys, [few, *self.after])
        parts = {
            "few": self._few(selective, columns),
            "found": QueryString("SELECT count(*) AS total FROM few"),
            "page": self._first(self.limit, _union([walk, QueryString("({})", first)]), self.keys),
            self.name: self._whole("page"),
        }
        return self._rendered(parts, self.keys, found)

    def explain(self) -> QueryString:
        """Tells how many rows PostgreSQL expects, from its statistics alone."""
        return QueryString("EXPLAIN (FORMAT JSON) {}", self._hits("({})"))

    def _rank(self) -> QueryString:
        """The best of the newest hits. Each way to find them is a scan of its own: for an OR of them, PostgreSQL might
        walk along the newest rows and ask of each what is dear to ask."""
        newest = [(self.table.created_at, True), (self.table.id, True)]
        columns = self._columns_of_keys(self.table.created_at)
        ways = list(product(*(each.ways or (each.condition,) for each in self.filters)))
        hits = []
        for scope in self.scopes:
            found = _union([self._scan([scope, *conditions], newest, FEW, columns) for conditions in ways])
            hits.append(QueryString("({})", self._first(FEW, found, newest)))
        page = self._first(self.limit, _union(hits), self.keys, self.after)
        return self._rendered({"page": page, self.name: self._whole("page")}, self.keys)

    def _few(self, selective: Sequence[Filter], columns: Sequence[Any]) -> QueryString:
        """All matches, or enough of them to know that they are not few. An order that only a column's index has keeps
        PostgreSQL from looking for them elsewhere."""
        if all(each.column is not None for each in selective):
            return self._scans(
                self.conditions, [(selective[0].column, False), (self.table.id, False)], FEW + 1, columns
            )
        anywhere = self.scopes[0]
        for scope in self.scopes[1:]:
            anywhere = anywhere | scope
        return QueryString(f"{{}} LIMIT {FEW + 1}", sql(self.table.select(*columns).where(*self.conditions, anywhere)))

    def _scans(self, conditions: Sequence[Any], keys: Sequence[Key], most: int, columns: Sequence[Any]) -> QueryString:
        return _union([self._scan([scope, *conditions], keys, most, columns) for scope in self.scopes])

    def _scan(self, conditions: Sequence[Any], keys: Sequence[Key], most: int, columns: Sequence[Any]) -> QueryString:
        rows = self.table.select(*columns).where(*conditions)
        return QueryString(f"({{}} ORDER BY {{}} LIMIT {most})", sql(rows), _order(keys))

    def _first(self, most: int, rows: QueryString, keys: Sequence[Key], conditions: Sequence[Any] = ()) -> QueryString:
        template = f'SELECT * FROM ({{}}) AS "{self.name}" WHERE {{}} ORDER BY {{}} LIMIT {most}'  # noqa: S608 (our own names)
        return QueryString(template, rows, _all(conditions), _order(keys))

    def _whole(self, part: str) -> QueryString:
        """All columns, which are read for a page's rows alone, from where they lie."""
        template = f'SELECT "{self.name}".* FROM {part} JOIN "{self.name}" ON "{self.name}".ctid = {part}.ctid'  # noqa: S608 (our own names)
        return QueryString(template)

    def _columns_of_keys(self, *also: Any) -> list[Any]:
        columns = [
            self.place,
            self.table.id,
            *also,
            *(column for key in self.sorts for column in key.reads or (key.expression,)),
        ]
        return list({id(column): column for column in columns}.values())

    def _hits(self, each: str) -> QueryString:
        hits = [self.table.select(self.table.id).where(scope, *self.conditions) for scope in self.scopes]
        return _union([QueryString(each, sql(rows)) for rows in hits])

    def _rendered(
        self,
        parts: Mapping[str, QueryString],
        keys: Sequence[Key],
        found: QueryString | None = None,
    ) -> QueryString:
        ctes = {name: cte for each in self.filters for name, cte in each.ctes.items()}
        columns = [self.item.as_alias("item"), self.table.id, *_named(keys)]
        if self.shape.counted:
            hits = self._hits(f"({{}} LIMIT {COUNTED})")
            ctes["counted"] = QueryString("SELECT least(count(*), {}) AS total FROM ({}) AS hits", COUNTED, hits)
            columns.append(QueryString("(SELECT total FROM counted)", alias="total"))
        if found is not None:
            columns.append(QueryString("{}", found, alias="found"))
        ctes |= parts
        names = ", ".join(f'"{name}" AS ({{}})' for name in ctes)
        template = f"WITH {names} {{}} ORDER BY {{}} LIMIT {{}}"
        return QueryString(template, *ctes.values(), sql(self.table.select(*columns)), _order(keys), Param("limit"))


def _union(scans: Sequence[QueryString]) -> QueryString:
    return QueryString(" UNION ALL ".join(["{}"] * len(scans)), *scans)


def _all(conditions: Sequence[Any]) -> QueryString:
    return QueryString(" AND ".join(["{}"] * len(conditions)) or "true", *(each.querystring for each in conditions))


def _named(keys: Sequence[Key]) -> list[QueryString]:
    """The keys as columns, but for the last, which is the id."""
    return [QueryString("{}", expression, alias=f"key_{place}") for place, (expression, _) in enumerate(keys[:-1])]


def _order(keys: Sequence[Key]) -> QueryString:
    parts = ", ".join(f"{{}} {'DESC' if descending else 'ASC'}" for _, descending in keys)
    return QueryString(parts, *(expression for expression, _ in keys))


def _after(keys: Sequence[Key]) -> WhereRaw:
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
