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

from piccolo.querystring import QueryString

from service.callers import Caller
from service.changes.schemas import ChangeKind
from service.characters.scopes import CHARACTER
from service.characters.tables import TRASH_DAYS, Character
from service.database.prepared import Param, Prepared, json_object, sql
from service.errors import BadRequest, Forbidden, Unavailable, Violation
from service.lists.cursors import decode_cursor, encode_cursor
from service.lists.sizes import MAX_PAGE_SIZE, shown, within_page
from service.relationships.scopes import RELATIONSHIP, visible_to
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


_COLUMNS = ("item", "written_in", "id")


def _item(kind: str, id: Any, version: Any, fields: Mapping[str, Any] | None) -> QueryString:
    """``fields`` are those of the resource; None for a deleted one."""
    common = {"id": id, "version": version, "kind": QueryString(f"'{kind}'")}
    if fields is None:
        return json_object(common | {"deleted": QueryString("true")})
    return json_object(common | {"deleted": QueryString("false"), kind: json_object(fields)})


def _is_next(written_in: Any, id: Any) -> QueryString:
    """Whether a row is behind the position, and all transactions up to its own have ended."""
    return QueryString(
        "({}, {}) > ({}, {}) AND {} < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
        *(written_in, id, Param("written_in"), Param("id"), written_in),
    )


def _characters() -> QueryString:
    item = QueryString(
        "CASE WHEN {} IS NULL THEN {} ELSE {} END",
        Character.deleted_at,
        _item("character", Character.id, Character.version, CHARACTER),
        _item("character", Character.id, Character.version, None),
    )
    rows = (
        Character.select(item.as_alias("item"), Character.written_in, Character.id)
        .where(Character.owner == Param("user"), _is_next(Character.written_in, Character.id))
        .order_by(Character.written_in, Character.id)
    )
    return QueryString("{} LIMIT {}", sql(rows), Param("limit"))


_ID = QueryString("changed_rows.id")


def _others(kind: str, table: Any, fields: Mapping[str, Any], *readable: Any) -> QueryString:
    """Templates or relationships. A row that does not exist any more, or is not ``readable``, is a deleted one."""
    found = table.select(_item(kind, table.id, table.version, fields).as_alias("item")).where(
        table.id == _ID, *readable
    )
    return QueryString(
        "SELECT coalesce(({}), {}) AS item, written_in, id FROM changed_rows"
        " WHERE owner = {} AND kind = {} AND {} ORDER BY written_in, id LIMIT {}",
        sql(found),
        _item(kind, _ID, QueryString("changed_rows.version"), None),
        Param("user"),
        kind,
        _is_next(QueryString("written_in"), _ID),
        Param("limit"),
    )


_QUERIES: Mapping[str, Callable[[], QueryString]] = {
    "character": _characters,
    "template": lambda: _others("template", Template, TEMPLATE),
    "relationship": lambda: _others("relationship", Relationship, RELATIONSHIP, visible_to(Param("user"))),
}


@cache
def _page(kinds: tuple[str, ...]) -> Prepared:
    def write() -> QueryString:
        queries, most = [_QUERIES[kind]() for kind in kinds], QueryString("{}::bigint", Param("most"))
        if len(queries) == 1:
            return within_page(queries[0], _COLUMNS, most)
        together = QueryString(" UNION ALL ".join(["({})"] * len(queries)), *queries)
        rows = QueryString("SELECT * FROM ({}) AS rows ORDER BY written_in, id LIMIT {}", together, Param("limit"))
        return within_page(rows, _COLUMNS, most)

    return Prepared(write)


# Transaction ids are valid within one history of a cluster. A dump that is restored belongs to another cluster or
# another table. A standby that was promoted begins another timeline, and gives out again the ids of transactions that
# did not reach it. Cursors of another history are refused. A standby does not say which timeline it follows.
_HISTORY = Prepared(
    lambda: QueryString(
        "SELECT CASE WHEN NOT pg_is_in_recovery() THEN concat_ws('/', system_identifier, 'characters'::regclass::oid,"
        " nullif(substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), '00000001')) END"  # as cursors were before
        " AS name,"
        " EXISTS (SELECT FROM feed_cluster WHERE system_identifier = control.system_identifier) AS is_known"
        " FROM pg_control_system() AS control"
    )
)
STANDBY = "The feed is not ready: the database is a standby."
RESTORED = "The feed is not ready: the database was restored from a dump. An operator must run piccolo service resync."


_IS_DELAYED = Prepared(
    lambda: QueryString(
        "SELECT ('character' = ANY ({}::text[])"
        ' AND EXISTS (SELECT FROM characters WHERE "owner" = {} AND (written_in, id) > ({}, {})))'
        " OR EXISTS (SELECT FROM changed_rows WHERE owner = {} AND kind = ANY ({}::text[])"
        " AND (written_in, id) > ({}, {}))",
        *(Param(name) for name in ("kinds", "user", "written_in", "id", "user", "kinds", "written_in", "id")),
    )
)


async def is_resynced() -> bool:
    """Whether the numbers of the transactions are those of this server: not after a dump was restored."""
    return bool((await _HISTORY.one())["is_known"])


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
        one that is too old. Raises Forbidden if the caller may not read templates, but ``kinds`` has them. Raises
        Unavailable after a dump was restored."""
        if "template" in kinds and not user.may("templates:read"):
            raise Forbidden("This API key lacks the scope templates:read.")
        now, listed = datetime.now(UTC), tuple(kind for kind in _QUERIES if kind in kinds)
        history = await _HISTORY.one()
        if not history["is_known"]:
            raise Unavailable(RESTORED)
        if history["name"] is None:
            raise Unavailable(STANDBY)
        others = "" if listed == ("character",) else f" {'+'.join(listed)}"  # as cursors were before there were kinds
        shape = f"changes {user.id} {history['name']}{others}"
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

    async def read(self, limit: int, most: int = MAX_PAGE_SIZE) -> Sequence[Any]:
        """The next rows, at most ``limit``, and fewer if they have more than ``most`` bytes: then at least one.
        ``is_complete`` says whether they are all."""
        now = datetime.now(UTC)
        self._earlier = started = self._position
        page = _page(self._kinds)
        after: dict[str, Any] = {"written_in": started.written_in, "id": started.id}
        rows = await page.all(user=self.user.id, side=None, limit=limit, most=most, **after)
        read = shown(rows, limit, most)
        last = read[-1] if read else started._asdict()
        self.is_complete = len(read) == len(rows) < limit
        complete_at = now if self.is_complete else started.complete_at
        self._position = _Position(last["written_in"], last["id"], complete_at)
        return read

    def return_to_start(self) -> None:
        """Makes the next ``read`` give the rows that were read last once more."""
        self._position = self._earlier

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
