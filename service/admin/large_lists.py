"""Lists of the admin site that stay quick with a million rows: what they count, sort and filter by is bounded.

Piccolo Admin would count all rows, sort a whole table by any column, and search texts without an index.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import asyncpg
from piccolo.columns import Column, Text, Varchar
from piccolo.columns.combination import WhereRaw
from piccolo.columns.operators.comparison import Equal
from piccolo.query import OrderByRaw
from piccolo.querystring import QueryString
from piccolo.table import Table
from piccolo_admin.endpoints import TableConfig
from piccolo_api.crud.endpoints import ParamException, Params, PiccoloCRUD
from piccolo_api.crud.exceptions import MalformedQuery
from piccolo_api.crud.validators import apply_validators
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.admin.additions import api_of
from service.audit.tables import AuditEntry
from service.characters.tables import Character
from service.database.prepared import sql

MOST_COUNTED = 5_000  # rows of a list; further pages are not shown
_MOST_SORTED = 1_000  # matches of filters; more are found in the order of the list, which is by id
MOST_OFFERED = 50  # rows in a choice of a row

# Conditions for which there is an index. The indexes of characters are of those outside of the trash, or of the trash.
_LIVING_OR_TRASH = "(characters.deleted_at IS NULL AND {0} OR characters.deleted_at IS NOT NULL AND {0})"
_BY_INDEX: dict[tuple[type[Table], str], str] = {
    (Character, "name"): _LIVING_OR_TRASH.format("spelt(characters.name_key) LIKE spelt(name_key({}))"),
    (Character, "tags"): _LIVING_OR_TRASH.format("characters.tag_keys @> tag_keys(ARRAY[{}]::text[])"),
}
_EXACT = {(AuditEntry, "row"), (AuditEntry, "operator"), (AuditEntry, "address")}  # no part of a text is searched
EXACT_OF_TABLES = {AuditEntry._meta.tablename: [*(name for _, name in _EXACT), "owner", "member"]}  # ids, too
_FEW = "few"  # a parameter for _split_params
_PATTERNS = {"exact": "{}", "starts": "{}%", "ends": "%{}"}


_Method = TypeVar("_Method", bound=Callable[..., Any])
_validated: Callable[[_Method], _Method] = apply_validators  # which has no types of its own


class BoundedList(PiccoloCRUD):
    def __init__(self, config: TableConfig) -> None:
        super().__init__(config.table_class, validators=config.validators)
        self.sorts = {
            self.table._meta.primary_key._meta.name,
            *(each.column._meta.name for each in config.order_by or ()),
        }

    @_validated
    async def get_all(self, request: Request, params: dict[str, Any] | None = None) -> Response:
        asked = params or {}
        wanted = self._split_params(asked)
        if (wanted.page - 1) * (wanted.page_size or self.page_size) > MOST_COUNTED:
            raise HTTPException(400, f"Only the first {MOST_COUNTED:,} rows are shown. Use filters to find others.")
        is_sorted = any(order.column._meta.name not in self.sorts for order in wanted.order_by or ())
        if is_sorted and await self._count(wanted, MOST_COUNTED + 1) > MOST_COUNTED:
            raise HTTPException(400, f"More than {MOST_COUNTED:,} rows are sorted by id only. Use filters first.")
        few = {_FEW: "yes"} if wanted.fields and not is_sorted and await self._is_few(wanted) else {}
        answer: Response = await super().get_all(request, params=asked | few)
        return answer

    @_validated
    async def get_count(self, request: Request) -> Response:
        """The number of rows, up to one more than MOST_COUNTED."""
        count = await self._count(self._split_params(self._parse_params(request.query_params)), MOST_COUNTED + 1)
        return JSONResponse({"count": count, "page_size": self.page_size})

    async def get_count_or_none(self, request: Request) -> Response:
        """A refused list has no rows: Piccolo Admin asks for their number first, and shows nothing if that fails, not
        even the filters. It says why when it reads the rows."""
        try:
            return await self.get_count(request)
        except (HTTPException, ValidationError, asyncpg.DataError):
            return JSONResponse({"count": 0, "page_size": self.page_size})

    @_validated
    async def get_ids(self, request: Request) -> Response:
        """The newest rows whose name contains ``search``: by their ids, their names."""
        asked, (column,) = request.query_params, self.table.get_readable().columns
        key, params = self.table._meta.primary_key, Params()
        if asked.get("search") and isinstance(column, Varchar | Text):
            params.fields[column._meta.name] = asked["search"]
        try:
            limit, offset = (int(asked.get(name, other)) for name, other in (("limit", MOST_OFFERED), ("offset", 0)))
        except ValueError:
            raise HTTPException(400, "The limit and the offset are numbers.") from None
        is_few = bool(params.fields) and await self._is_few(params)
        query = self._apply_filters(self.table.select(key, column.as_alias("readable")), params)
        query = query.order_by(self._by_key() if is_few else key, ascending=False)
        rows = await query.limit(min(limit, MOST_OFFERED)).offset(min(offset, MOST_COUNTED))
        return JSONResponse({str(row[key._meta.name]): str(row["readable"]) for row in rows})

    def counting(self, params: Params, most: int) -> QueryString:
        query = self._apply_filters(self.table.select(self.table._meta.primary_key), deepcopy(params))
        return QueryString("SELECT count(*) AS count FROM ({}) AS found", sql(query.limit(most)))

    async def _count(self, params: Params, most: int) -> int:
        (found,) = await self.table.raw("{}", self.counting(params, most))
        return int(found["count"])

    async def _is_few(self, params: Params) -> bool:
        """Whether all matches can be sorted. Otherwise a page soon finds enough of them in the order of the list."""
        return await self._count(params, _MOST_SORTED + 1) <= _MOST_SORTED

    def _by_key(self) -> Any:
        """The order by the key, without its index: PostgreSQL would look for few matches among all rows."""
        name = self.table._meta.primary_key._meta.name
        return OrderByRaw(f'("{self.table._meta.tablename}"."{name}" || \'\')')

    def _split_params(self, params: dict[str, Any]) -> Params:
        try:
            found = super()._split_params({name: value for name, value in params.items() if name != _FEW})
        except (ParamException, ValueError) as fault:
            raise HTTPException(400, str(fault)) from None
        if _FEW in params:
            for order in found.order_by or ():
                if order.column == self.table._meta.primary_key:
                    order.column = self._by_key()
        return found

    def _apply_filters(self, query: Any, params: Params) -> Any:
        conditions = []
        for name, given in list(params.fields.items()):
            is_equal = given is not None and params.operators[name] is Equal
            if is_equal and (self._is_exact(name) or (self.table, name) in _BY_INDEX):
                del params.fields[name]
                values = given if isinstance(given, list) else [given]
                conditions += [self._condition(name, value, params.match_types[name]) for value in values]
        try:
            return super()._apply_filters(query, params).where(*conditions)
        except MalformedQuery as fault:
            raise HTTPException(400, str(fault)) from None

    def _is_exact(self, name: str) -> bool:
        column = next((each for each in self.table._meta.columns if each._meta.name == name), None)
        return (self.table, name) in _EXACT or (column is not None and column._meta.choices is not None)

    def _condition(self, name: str, value: str, match: str) -> Any:
        condition = _BY_INDEX.get((self.table, name))
        column: Column = self.table._meta.get_column_by_name(name)
        if condition is None:
            return column == value
        if isinstance(column, Varchar):
            value = _PATTERNS.get(match, "%{}%").format(value)
        return WhereRaw(condition, value, value)


def bound_lists(site: Any, tables: list[TableConfig]) -> None:
    """Puts bounded lists, counts and choices of rows in front of those of Piccolo Admin."""
    routes = []
    for config in tables:
        crud = BoundedList(config)
        path = f"/tables/{config.table_class._meta.tablename}/"
        count, ids = Route(f"{path}count/", crud.get_count_or_none), Route(f"{path}ids/", crud.get_ids)
        routes += [Route(path, crud.root), count, ids]
    api_of(site).router.routes[:0] = routes
