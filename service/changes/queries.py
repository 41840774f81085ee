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

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
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


async def list_changes(user: Caller, limit: int, after: str | None) -> Changes:
    """The caller's own characters, in the order of their last writes. Raises BadRequest for a cursor that may have
    missed changes: one from another database, or one that is too old."""
    now = datetime.now(UTC)
    shape = f"changes {user.id} {await _HISTORY.value()}"
    position = _Position(0, UUID(int=0), now)
    if after is not None:
        position = _Position(*decode_cursor(after, shape, (int, UUID, datetime), "after"))
    if now - position.complete_at > _MAX_GAP:
        text = f"Is older than {_MAX_GAP.days} days; start again without it."
        raise BadRequest("The cursor is not valid.", errors=[Violation(text, parameter="after")])
    rows = await _PAGE.all(user=user.id, written_in=position.written_in, id=position.id, limit=limit)
    page = shown(rows, limit)
    last = page[-1] if page else position._asdict()
    complete_at = now if len(page) == len(rows) < limit else position.complete_at
    return Changes([row["item"] for row in page], encode_cursor([last["written_in"], last["id"], complete_at], shape))
