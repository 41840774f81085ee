"""The feed of changes: each resource once, in the order of the last writes.

Why a reader who follows the cursor misses nothing:

- A trigger stores the id of the transaction that wrote a row last (``written_in``), of a character in its own row, of a
  template or a relationship in the table ``changed_rows``. The feed is sorted by it.
- PostgreSQL gives out transaction ids in ascending order, but transactions commit in any order. A transaction with a
  small id may commit after one with a greater id was read.
- So the feed shows only rows whose transaction id is below those of all transactions that are still running
  (``pg_snapshot_xmin``). No row can appear later before a position that the feed has passed.
- A deletion stays in the feed as long as the trash is kept. A reader who has not reached the end of the feed for nearly
  that long may have missed a deletion, so the cursor is refused.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.query import Query
from piccolo.querystring import QueryString

from service.callers import Caller
from service.changes.schemas import ChangeKind
from service.characters.scopes import CHARACTER
from service.characters.tables import TRASH_DAYS, Character
from service.database.prepared import Param, Prepared, json_object, sql
from service.errors import BadRequest, Forbidden, Violation
from service.lists.cursors import decode_cursor, encode_cursor
from service.lists.sizes import shown, within_page
from service.relationships.queries import FROM_SOURCE, visible_to
from service.relationships.tables import Relationship
from service.templates.queries import TEMPLATE
from service.templates.tables import Template

_MAX_GAP = timedelta(days=TRASH_DAYS - 1)  # one day less than the trash, as clocks differ and a purge takes time


class Changes(NamedTuple):
    """A page, which ends early before its items are too large together: each as JSON text, and the next cursor."""

    items: list[str]
    next_cursor: str


class _Position(NamedTuple):
    """The position of a cursor in the feed."""

    written_in: int
    id: UUID
    complete_at: datetime  # when the reader last reached the end of the feed; it may have missed purges since then


_POSITION = ("item", "written_in", "id")
_IN_ORDER = "({}, {}) > ({}, {}) AND {} < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


def _item(kind: str, resource: Any, fields: Mapping[str, Any]) -> QueryString:
    common = {"id": resource.id, "version": resource.version, "kind": QueryString(f"'{kind}'")}
    return json_object(common | {"deleted": QueryString("false"), kind: json_object(fields)})


def _characters() -> QueryString:
    common = {"id": Character.id, "version": Character.version, "kind": QueryString("'character'")}
    item = QueryString(
        "CASE WHEN {} IS NULL THEN {} ELSE {} END",
        Character.deleted_at,
        _item("character", Character, CHARACTER),
        json_object(common | {"deleted": QueryString("true")}),
    )
    rows = (
        Character.select(item.as_alias("item"), Character.written_in, Character.id)
        .where(Character.owner == Param("user"), WhereRaw(_IN_ORDER, *_position(Character.written_in, Character.id)))
        .order_by(Character.written_in, Character.id)
    )
    return QueryString("{} LIMIT {}", sql(rows), Param("limit"))


def _others(kind: str, found: Query[Any, Any]) -> QueryString:
    """Templates or relationships; ``found`` selects the item of the one that still exists and can be read."""
    id, written_in = QueryString("changed_rows.id"), QueryString("written_in")
    deleted = {"id": id, "version": QueryString("changed_rows.version"), "kind": QueryString("kind")}
    return QueryString(
        "SELECT coalesce(({}), {}) AS item, written_in, changed_rows.id FROM changed_rows"  # noqa: S608 (our own names)
        f" WHERE owner = {{}} AND kind = '{kind}' AND {_IN_ORDER} ORDER BY written_in, id LIMIT {{}}",
        sql(found),
        json_object(deleted | {"deleted": QueryString("true")}),
        Param("user"),
        *_position(written_in, id),
        Param("limit"),
    )


def _position(written_in: Any, id: Any) -> tuple[Any, ...]:
    return written_in, id, Param("written_in"), Param("id"), written_in


_THIS = QueryString("changed_rows.id")
_QUERIES: Mapping[str, Callable[[], QueryString]] = {
    "character": _characters,
    "template": lambda: _others(
        "template",
        Template.select(_item("template", Template, TEMPLATE).as_alias("item")).where(Template.id == _THIS),
    ),
    "relationship": lambda: _others(
        "relationship",
        Relationship.select(_item("relationship", Relationship, FROM_SOURCE).as_alias("item")).where(
            Relationship.id == _THIS, visible_to(Param("user"))
        ),
    ),
}


@cache
def _page(kinds: tuple[str, ...]) -> Prepared:
    def write() -> QueryString:
        if len(kinds) == 1:
            return within_page(_QUERIES[kinds[0]](), _POSITION)
        together = " UNION ALL ".join(["({})"] * len(kinds))
        rows = f"SELECT * FROM ({together}) AS rows ORDER BY written_in, id LIMIT {{}}"  # noqa: S608 (our own text)
        return within_page(QueryString(rows, *(_QUERIES[kind]() for kind in kinds), Param("limit")), _POSITION)

    return Prepared(write)


# Transaction ids are valid within one cluster only. Restoring a dump creates another cluster or another table, so older
# cursors are refused.
_HISTORY = Prepared(
    lambda: QueryString("SELECT system_identifier || '/' || 'characters'::regclass::oid FROM pg_control_system()")
)


_IS_DELAYED = Prepared(
    lambda: QueryString(
        "SELECT ('character' = ANY ({}::text[])"
        ' AND EXISTS (SELECT FROM characters WHERE "owner" = {} AND (written_in, id) > ({}, {})))'
        " OR EXISTS (SELECT FROM changed_rows WHERE owner = {} AND kind = ANY ({}::text[])"
        " AND (written_in, id) > ({}, {}))",
        *(Param(name) for name in ("kinds", "user", "written_in", "id", "user", "kinds", "written_in", "id")),
    )
)


async def list_changes(user: Caller, kinds: Collection[ChangeKind], limit: int, after: str | None) -> Changes:
    """The caller's own resources, in the order of their last writes. Raises what ``Feed.after`` raises."""
    feed = await Feed.after(user, kinds, after)
    page = await feed.read(limit)
    return Changes([row["item"] for row in page], feed.cursor)


class Feed:
    """A user's feed of changes, read on from a position."""

    def __init__(self, user: Caller, kinds: tuple[str, ...], shape: str, position: _Position) -> None:
        self.user = user
        self._kinds = kinds
        self._shape = shape
        self._position = position
        self._earlier = position  # before the rows that were read last
        self.is_complete = False  # whether the rows that were read last are all that there are now

    @classmethod
    async def after(cls, user: Caller, kinds: Collection[ChangeKind], cursor: str | None) -> "Feed":
        """Raises BadRequest for a cursor that may have missed changes: one from another database, of other kinds, or
        one that is too old. Raises Forbidden if the caller may not read templates, but ``kinds`` has them."""
        if "template" in kinds and user.kind == "key" and "templates:read" not in user.scopes:
            raise Forbidden("This API key lacks the scope templates:read.")
        now, listed = datetime.now(UTC), tuple(kind for kind in _QUERIES if kind in kinds)
        others = "" if listed == ("character",) else f" {'+'.join(listed)}"  # as cursors were before there were kinds
        shape = f"changes {user.id} {await _HISTORY.value()}{others}"
        position = _Position(0, UUID(int=0), now)
        if cursor is not None:
            position = _Position(*decode_cursor(cursor, shape, (int, UUID, datetime), "after"))
        if now - position.complete_at > _MAX_GAP:
            text = f"Is older than {_MAX_GAP.days} days; start again without it."
            raise BadRequest("The cursor is not valid.", errors=[Violation(text, parameter="after")])
        return cls(user, listed, shape, position)

    @property
    def cursor(self) -> str:
        return encode_cursor(self._position, self._shape)

    async def read(self, limit: int) -> Sequence[Any]:
        """The next rows, at most ``limit``, and fewer if they are large. ``is_complete`` says whether they are all."""
        now = datetime.now(UTC)
        self._earlier = started = self._position
        page = _page(self._kinds)
        rows = await page.all(user=self.user.id, written_in=started.written_in, id=started.id, limit=limit)
        read = shown(rows, limit)
        last = read[-1] if read else started._asdict()
        self.is_complete = len(read) == len(rows) < limit
        complete_at = now if self.is_complete else started.complete_at
        self._position = _Position(last["written_in"], last["id"], complete_at)
        return read

    def cursor_of(self, row: Any) -> str:
        """The cursor that follows one of the rows that were read last."""
        if (row["written_in"], row["id"]) == self._position[:2]:
            return self.cursor
        return encode_cursor([row["written_in"], row["id"], self._earlier.complete_at], self._shape)

    async def is_delayed(self) -> bool:
        """Whether there are changes that wait for the end of an older transaction."""
        position = self._position
        kinds = list(self._kinds)
        return bool(
            await _IS_DELAYED.value(user=self.user.id, kinds=kinds, written_in=position.written_in, id=position.id)
        )
