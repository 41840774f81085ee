"""Keyset pagination in SQL: a page begins behind the sort keys of the previous page's last row."""

from collections.abc import Sequence
from typing import Any

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.database.prepared import Param

Key = tuple[Any, bool]  # an expression, and whether it descends


def key_columns(keys: Sequence[Key]) -> list[QueryString]:
    """The keys as columns, without the last one, the id."""
    return [QueryString("{}", expression, alias=f"key_{index}") for index, (expression, _) in enumerate(keys[:-1])]


def order_by(keys: Sequence[Key]) -> QueryString:
    parts = ", ".join(f"{{}} {'DESC' if descending else 'ASC'}" for _, descending in keys)
    return QueryString(parts, *(expression for expression, _ in keys))


def rows_after(keys: Sequence[Key]) -> WhereRaw:
    """Rows behind the keys of the cursor, in their order."""
    expressions = [expression for expression, _ in keys]
    values = [Param(f"after_{index}") for index in range(len(keys))]
    directions = {descending for _, descending in keys}
    if len(directions) == 1:
        row = ", ".join(["{}"] * len(keys))
        return WhereRaw(f"({row}) {'<' if directions.pop() else '>'} ({row})", *expressions, *values)
    first = f"{{}} {'<=' if keys[0][1] else '>='} {{}}"  # an index finds the first row by it, and not by the cases
    cases, arguments = [], [expressions[0], values[0]]
    for index, (expression, descending) in enumerate(keys):
        cases.append(" AND ".join(["{} = {}"] * index + [f"{{}} {'<' if descending else '>'} {{}}"]))
        for earlier in range(index):
            arguments += [expressions[earlier], values[earlier]]
        arguments += [expression, values[index]]
    return WhereRaw(f"({first} AND (({') OR ('.join(cases)})))", *arguments)
