"""The feed of changes: each character once, in the order of the last writes.

Why a reader who follows the cursor misses nothing:

- A trigger stores in each row the id of the transaction that wrote it last (``written_in``). The feed is sorted by it.
- PostgreSQL gives out transaction ids in ascending order, but transactions commit in any order. A transaction with a
  small id may commit after one with a greater id was read.
- So the feed shows only rows whose transaction id is below those of all transactions that are still running
  (``pg_snapshot_xmin``). No row can appear later before a position that the feed has passed.
- A deletion stays in the feed as long as the trash is kept. A reader who has not reached the end of the feed for nearly
  that long may have missed a deletion, so the cursor is refused.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.scopes import CHARACTER
from service.characters.tables import TRASH_DAYS, Character
from service.database.prepared import Param, Prepared, json_object, sql
from service.errors import BadRequest, Violation
from service.lists.cursors import decode_cursor, encode_cursor
from service.lists.sizes import shown, within_page

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


def _change() -> QueryString:
    common = {"id": Character.id, "version": Character.version}
    alive = common | {"deleted": QueryString("false"), "character": json_object(CHARACTER)}
    deleted = common | {"deleted": QueryString("true")}
    return QueryString(
        "CASE WHEN {} IS NULL THEN {} ELSE {} END", Character.deleted_at, json_object(alive), json_object(deleted)
    )


def _page() -> QueryString:
    rows = (
        Character.select(_change().as_alias("item"), Character.written_in, Character.id)
        .where(
            Character.owner == Param("user"),
            WhereRaw("({}, {}) > ({}, {})", Character.written_in, Character.id, Param("written_in"), Param("id")),
            WhereRaw("{} < pg_snapshot_xmin(pg_current_snapshot())::text::bigint", Character.written_in),
        )
        .order_by(Character.written_in, Character.id)
    )
    return within_page(QueryString("{} LIMIT {}", sql(rows), Param("limit")), ("item", "written_in", "id"))


_PAGE = Prepared(_page)

# Transaction ids are valid within one cluster only. Restoring a dump creates another cluster or another table, so older
# cursors are refused.
_HISTORY = Prepared(
    lambda: QueryString("SELECT system_identifier || '/' || 'characters'::regclass::oid FROM pg_control_system()")
)


_IS_DELAYED = Prepared(
    lambda: QueryString(
        'SELECT EXISTS (SELECT FROM characters WHERE "owner" = {} AND (written_in, id) > ({}, {}))',
        Param("user"),
        Param("written_in"),
        Param("id"),
    )
)


async def list_changes(user: Caller, limit: int, after: str | None) -> Changes:
    """The caller's own characters, in the order of their last writes. Raises what ``Feed.after`` raises."""
    feed = await Feed.after(user, after)
    page = await feed.read(limit)
    return Changes([row["item"] for row in page], feed.cursor)


class Feed:
    """A user's feed of changes, read on from a position."""

    def __init__(self, user: Caller, shape: str, position: _Position) -> None:
        self.user = user
        self._shape = shape
        self._position = position
        self._earlier = position  # before the rows that were read last
        self.is_complete = False  # whether the rows that were read last are all that there are now

    @classmethod
    async def after(cls, user: Caller, cursor: str | None) -> "Feed":
        """Raises BadRequest for a cursor that may have missed changes: one from another database, or one that is too
        old."""
        now = datetime.now(UTC)
        shape = f"changes {user.id} {await _HISTORY.value()}"
        position = _Position(0, UUID(int=0), now)
        if cursor is not None:
            position = _Position(*decode_cursor(cursor, shape, (int, UUID, datetime), "after"))
        if now - position.complete_at > _MAX_GAP:
            text = f"Is older than {_MAX_GAP.days} days; start again without it."
            raise BadRequest("The cursor is not valid.", errors=[Violation(text, parameter="after")])
        return cls(user, shape, position)

    @property
    def cursor(self) -> str:
        return encode_cursor(self._position, self._shape)

    async def read(self, limit: int) -> Sequence[Any]:
        """The next rows, at most ``limit``, and fewer if they are large. ``is_complete`` says whether they are all."""
        now = datetime.now(UTC)
        self._earlier = started = self._position
        rows = await _PAGE.all(user=self.user.id, written_in=started.written_in, id=started.id, limit=limit)
        page = shown(rows, limit)
        last = page[-1] if page else started._asdict()
        self.is_complete = len(page) == len(rows) < limit
        complete_at = now if self.is_complete else started.complete_at
        self._position = _Position(last["written_in"], last["id"], complete_at)
        return page

    def cursor_of(self, row: Any) -> str:
        """The cursor that follows one of the rows that were read last."""
        if (row["written_in"], row["id"]) == self._position[:2]:
            return self.cursor
        return encode_cursor([row["written_in"], row["id"], self._earlier.complete_at], self._shape)

    async def is_delayed(self) -> bool:
        """Whether there are changes that wait for the end of an older transaction."""
        position = self._position
        return bool(await _IS_DELAYED.value(user=self.user.id, written_in=position.written_in, id=position.id))
