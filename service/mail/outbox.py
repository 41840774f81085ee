"""The outbox: a letter is a row, written in the transaction of what it tells, and deleted once it is sent."""

import asyncio
from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.database.prepared import NOW, Prepared, insert
from service.identifiers import uuid7
from service.mail.tables import Letter

Kind = Literal["verification", "reset", "email_changed", "password_changed"]

KEPT_DAYS = 1  # then nobody waits for it any more
OVERDUE = WhereRaw("{} < now() - {}::int * interval '1 day'", Letter.created_at, KEPT_DAYS)

_LEASE = 120  # seconds until a letter whose courier vanished is anybody's again

_posted = asyncio.Event()


def post(*names: str, **fixed: Any) -> Any:
    """The INSERT of a letter; one of its kind to the same address that is still waiting will do."""
    letter = insert(Letter, *names, **{"due_at": NOW} | fixed)
    return letter.on_conflict(action="DO NOTHING")  # type: ignore[attr-defined] # an Insert, typed as any Query


_POST = Prepared(lambda: post("id", "kind", "address", "username"))
_TAKE = Prepared(
    lambda: QueryString(
        "UPDATE letters SET attempts = attempts + 1, due_at = now() + {}::int * interval '1 second' WHERE id ="
        " (SELECT id FROM letters WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
        " RETURNING id, kind, address, username, attempts, created_at < now() - {}::int * interval '1 day' AS overdue",
        _LEASE,
        KEPT_DAYS,
    )
)


async def queue_message(kind: Kind, address: str, username: str = "") -> None:
    """Leaves with the transaction that this is called in; ``wake_worker`` afterwards spares it a wait."""
    await _POST.one(id=uuid7(), kind=kind, address=address, username=username)


def wake_worker() -> None:
    """After a commit: this worker's courier looks at once."""
    _posted.set()


async def wait_for_letters(seconds: float) -> None:
    """Until one is announced here, at most ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _posted.wait()
    _posted.clear()


async def take_letter() -> Any:
    """The letter that is due longest, which no other courier gets meanwhile; None when there is none."""
    return await _TAKE.one()


async def delete_letter(letter_id: UUID) -> None:
    await Letter.delete().where(Letter.id == letter_id)


async def postpone_letter(letter_id: UUID, seconds: float) -> None:
    later = QueryString("now() + {}::float * interval '1 second'", seconds)
    await Letter.update({Letter.due_at: later}).where(Letter.id == letter_id)
