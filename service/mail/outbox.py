"""The outbox: each message is a row, committed with the change that it reports and deleted once it is sent."""

import asyncio
from contextlib import suppress
from hashlib import sha256
from typing import Any, Literal, NamedTuple
from uuid import UUID

from loguru import logger
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.database.prepared import NOW, Prepared, insert
from service.identifiers import uuid7
from service.limits.rate_limits import RECIPIENT, RECIPIENT_OF_LINKS
from service.mail.tables import Message

Kind = Literal["verification", "reset", "email_changed", "password_changed", "api_key_created"]

LINKS: tuple[Kind, ...] = ("verification", "reset")  # anybody may request them for any address

KEPT_DAYS = 1  # an older message is not sent any more
OVERDUE = WhereRaw("{} < now() - {}::int * interval '1 day'", Message.created_at, KEPT_DAYS)

_LEASE = 120  # seconds until another worker may take a message that was taken but not sent

_queued = asyncio.Event()


def insert_message(*names: str, **fixed: Any) -> Any:
    """The INSERT of a message. It does nothing when one of this kind to this address is already in the outbox."""
    statement = insert(Message, *names, **{"due_at": NOW} | fixed)
    return statement.on_conflict(action="DO NOTHING")  # type: ignore[attr-defined] # an Insert, typed as any Query


_INSERT = Prepared(lambda: insert_message("id", "kind", "address", "username"))
_TAKE = Prepared(
    lambda: QueryString(
        "UPDATE outbox SET attempts = attempts + 1, due_at = now() + {}::int * interval '1 second' WHERE id ="
        " (SELECT id FROM outbox WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
        " RETURNING id, kind, address, username, attempts, created_at < now() - {}::int * interval '1 day' AS overdue",
        _LEASE,
        KEPT_DAYS,
    )
)


async def queue_message(kind: Kind, address: str, username: str = "") -> None:
    """Writes a message in the open transaction. Call ``wake_worker`` after the commit to have it sent at once."""
    await _INSERT.one(id=uuid7(), kind=kind, address=address, username=username)


async def may_send(kind: Kind, address: str) -> bool:
    """Counts a message to this recipient, whoever caused it. Returns False when the recipient got too many of the kind.

    Each kind has a count of its own: requested links cannot use up the notices of changes."""
    key = sha256(f"{kind} {address.casefold()}".encode()).hexdigest()
    limits = (RECIPIENT_OF_LINKS, RECIPIENT) if kind in LINKS else (RECIPIENT,)
    for limit in limits:
        count, _ = await limit.counter.count(key)
        if count > limit.most:
            logger.warning("A message ({}) is not sent: its recipient got too many.", kind)
            return False
    return True


def wake_worker() -> None:
    """Makes the mail worker of this process look at the outbox at once. Call it after the commit."""
    _queued.set()


async def wait_for_messages(seconds: float) -> None:
    """Returns when ``wake_worker`` is called in this process, or after ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _queued.wait()
    _queued.clear()


async def take_message() -> Any:
    """Leases the message that has been due longest, so that no other worker sends it too; None when none is due."""
    return await _TAKE.one()


class Waiting(NamedTuple):
    messages: float
    seconds: float  # since the oldest one was queued


WAITING = Prepared(
    lambda: QueryString(
        "SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float AS oldest_seconds"
        " FROM outbox"
    )
)


async def waiting_messages() -> Waiting:
    """The messages in the outbox, including those that are being sent."""
    return Waiting(*await WAITING.one())


async def delete_message(message_id: UUID) -> None:
    await Message.delete().where(Message.id == message_id)


async def postpone_message(message_id: UUID, seconds: float) -> None:
    later = QueryString("now() + {}::float * interval '1 second'", seconds)
    await Message.update({Message.due_at: later}).where(Message.id == message_id)
