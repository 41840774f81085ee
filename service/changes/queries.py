"""The feed of changes: each character once, where its last write put it.

A row holds the number of the transaction that wrote it last, set by a trigger. Transactions are numbered in order but
commit in any: only what was written before all that are still under way is read, so nothing appears behind a cursor.
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

_LONGEST_AWAY = timedelta(days=TRASH_DAYS - 1)  # clocks differ, and what deletes may take its time to commit


class ChangesRead(NamedTuple):
    """A page, and the cursor behind it."""

    items: list[str]
    next_cursor: str


class _Place(NamedTuple):
    written_in: int
    id: UUID
    complete_at: datetime  # when the reader last knew everything: it never saw what ended before that


def _change() -> QueryString:
    told = {"id": Character.id, "version": Character.version}
    alive = told | {"deleted": QueryString("false"), "character": json_object(CHARACTER)}
    deleted = told | {"deleted": QueryString("true")}
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
    return QueryString("{} LIMIT {}", sql(rows), Param("limit"))


_PAGE = Prepared(_page)

# A restored dump brings numbers of one server to another that counts anew: another cluster, or at least another table.
_HISTORY = Prepared(
    lambda: QueryString("SELECT system_identifier || '/' || 'characters'::regclass::oid FROM pg_control_system()")
)


async def list_changes(user: Caller, limit: int, after: str | None) -> ChangesRead:
    """The caller's own characters, in the order of their last writes. Raises BadRequest for a cursor that may have
    missed something: of another history, or left for as long as the trash is kept."""
    now = datetime.now(UTC)
    shape = f"changes {user.id} {await _HISTORY.value()}"
    place = _Place(0, UUID(int=0), now)
    if after is not None:
        place = _Place(*decode_cursor(after, shape, (int, UUID, datetime), "after"))
    if now - place.complete_at > _LONGEST_AWAY:
        text = f"Was left for more than {_LONGEST_AWAY.days} days; start again without it."
        raise BadRequest("The cursor is not valid.", errors=[Violation(text, parameter="after")])
    rows = await _PAGE.all(user=user.id, written_in=place.written_in, id=place.id, limit=limit)
    last = rows[-1] if rows else place._asdict()
    complete_at = now if len(rows) < limit else place.complete_at
    return ChangesRead(
        [row["item"] for row in rows], encode_cursor([last["written_in"], last["id"], complete_at], shape)
    )
