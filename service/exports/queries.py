import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Hashable
from contextlib import aclosing
from tempfile import TemporaryFile
from typing import IO, Any

from service.audit.queries import ENTRY
from service.audit.tables import AuditEntry
from service.auth.api_keys import KEY
from service.auth.queries import SESSION
from service.auth.tables import Token
from service.callers import Caller
from service.cards.queries import CARD
from service.cards.tables import Card
from service.characters.scopes import CHARACTER
from service.characters.tables import Character, Revision
from service.database.engine import DB
from service.database.prepared import Param, Prepared, json_object, utc
from service.database.shares import FROM_ADDRESS
from service.errors import TooManyRequests, Unavailable
from service.limits.budget import Budget
from service.limits.turns import Turns
from service.relationships.scopes import RELATIONSHIP
from service.relationships.tables import Relationship
from service.templates.queries import SUMMARY as TEMPLATE
from service.templates.tables import Template, TemplateVersion
from service.templates.versions.queries import VERSION
from service.users.queries import own_fields
from service.users.tables import User

BATCH_SIZE = 10  # rows; a character can have 800 KiB
CARD_BATCH_SIZE = 1  # a card can have 8 MiB
MAX_SECONDS = 600.0  # for the client to read it
MAX_QUERY_SECONDS = 300.0  # for PostgreSQL to send it; a connection is held
MAX_BYTES = 4 * 1024**3  # of the temporary file
PIECE = 256 * 1024  # bytes
RETRY_AFTER = "10"  # seconds
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
MOST_OPEN = 32  # exports of a worker, nearly all of which wait for their clients

_TOO_MANY = "Too many exports are running."
# Two at a time: each holds a connection while PostgreSQL sends the rows
_TURNS = Turns(2, waiting=MOST_OPEN, waiting_of_caller=1, refusal=_TOO_MANY)
_ON_DISK = Budget(2 * MAX_BYTES, MAX_BYTES)
_users: dict[Any, Hashable] = {}  # those with an export in this worker, with their addresses


def _all(fields: Any, of: Any, *conditions: Any) -> Prepared:
    return Prepared(lambda: of.select(json_object(fields).as_alias("item")).where(*conditions).order_by(of.id))


_USER = Param("user")
_REVISION = {
    "id": Revision.id,
    "character": Revision.character,
    "number": Revision.number,
    "replaced": Revision.replaced,
    "created_at": utc(Revision.created_at),
}
_EVERYTHING = {
    "profile": _all(own_fields(), User, User.id == _USER),
    "session": _all(SESSION, Token, Token.user == _USER, Token.kind == "session"),
    "api_key": _all(KEY, Token, Token.user == _USER, Token.kind == "key"),
    "template": _all(TEMPLATE, Template, Template.owner == _USER),
    "template_version": _all(VERSION, TemplateVersion, TemplateVersion.template.owner == _USER),
    "character": _all(
        CHARACTER | {"deleted_at": utc(Character.deleted_at)},
        Character,
        Character.owner == _USER,
        Character.ended.eq(False),
    ),
    "revision": _all(_REVISION, Revision, Revision.character.owner == _USER),
    "card": _all(CARD, Card, Card.character.owner == _USER),
    "relationship": _all(RELATIONSHIP, Relationship, Relationship.source.owner == _USER),
    "audit_entry": _all(ENTRY, AuditEntry, AuditEntry.member == _USER),
}


async def export_account(user: Caller) -> AsyncGenerator[bytes, None]:
    """The user's data as NDJSON, in chunks, all from one snapshot of the database. The caller must read to the end or
    close the generator.

    A temporary file is between PostgreSQL and the client, so a slow client holds no connection. Raises TooManyRequests
    while another export of the user is running, and Unavailable while this worker has too many. If the client reads too
    slowly, or the files of all exports become too large, iterating raises an error.
    """
    chunks = _export(user)
    await anext(chunks)  # a failure before the first byte can still become a problem response
    return chunks


class _Spool:
    """A temporary file that one task writes while another reads it."""

    def __init__(self, file: IO[bytes], owner: str) -> None:
        self.file = file
        self.owner = owner
        self.size = self.taken = 0  # bytes that can be read, and of the budget
        self.changed = asyncio.Event()

    async def write(self, piece: bytes) -> None:
        if not _ON_DISK.take((self.owner,), len(piece)):
            raise Unavailable("The export is too large, or all that are running are.")
        self.taken += len(piece)
        write = asyncio.ensure_future(asyncio.to_thread(self._write_all, piece))
        try:
            await asyncio.shield(write)
        finally:
            await asyncio.wait([write])  # also when this is cancelled: the file must stay open until then
        self.size += len(piece)
        self.changed.set()

    def _write_all(self, piece: bytes) -> None:
        """An unbuffered file may take less than it is given."""
        rest = memoryview(piece)
        while rest:
            rest = rest[self.file.write(rest) :]

    async def read(self, at: int) -> bytes:
        return await asyncio.to_thread(os.pread, self.file.fileno(), min(PIECE, self.size - at), at)


async def _export(user: Caller) -> AsyncGenerator[bytes, None]:
    if user.id in _users:
        raise _running()
    address = FROM_ADDRESS.get()
    of_address = list(_users.values()).count(address) if address is not None else 0
    if len(_users) >= MOST_OPEN or of_address >= MOST_OPEN // 2:
        raise Unavailable(_TOO_MANY)
    _users[user.id] = address
    try:
        async with aclosing(_spooled(user)) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        del _users[user.id]


async def _spooled(user: Caller) -> AsyncGenerator[bytes, None]:
    with TemporaryFile(buffering=0) as file:
        spool = _Spool(file, str(user.id))
        writing = asyncio.create_task(_write_in_turn(user, spool))
        writing.add_done_callback(lambda _: spool.changed.set())
        try:
            await spool.changed.wait()
            if not spool.size:
                await writing  # raises why
            yield b""
            async for piece in _read(spool, writing):
                yield piece
        finally:
            await _end(writing)
            _ON_DISK.give_back((spool.owner,), spool.taken)


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancels the task and waits until it has ended, also if this is cancelled meanwhile: it holds a connection, and
    writes to a file that the caller closes next."""
    task.cancel()
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


async def _write_in_turn(user: Caller, spool: _Spool) -> None:
    async with _TURNS.turn():
        await _write(user, spool)


async def _write(user: Caller, spool: _Spool) -> None:
    """Writes all as fast as PostgreSQL gives it, and then frees the connection."""
    try:
        async with (
            asyncio.timeout(MAX_QUERY_SECONDS),
            DB.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            # Held until the transaction ends, and seen by all workers
            if not await connection.fetchval(_LOCK, f"export of {user.id}"):
                raise _running()
            for kind, rows in _EVERYTHING.items():
                at_once = CARD_BATCH_SIZE if kind == "card" else BATCH_SIZE
                async for batch in rows.batches(connection, at_once, user=user.id, side=None):
                    await spool.write(b"".join([_line(kind, row["item"]) for row in batch]))
    except TimeoutError:
        raise Unavailable("The export took too long to make.") from None


async def _read(spool: _Spool, writing: "asyncio.Task[None]") -> AsyncIterator[bytes]:
    ends, at = time.monotonic() + MAX_SECONDS, 0
    while True:
        if time.monotonic() > ends:
            raise Unavailable("The export took too long to read.")
        spool.changed.clear()
        if at < spool.size:
            piece = await spool.read(at)
            at += len(piece)
            yield piece
        elif writing.done():
            await writing  # raises why it broke off
            return
        else:
            await spool.changed.wait()


def _running() -> TooManyRequests:
    return TooManyRequests("Another export of yours is running.", headers={"Retry-After": RETRY_AFTER})


def _line(kind: str, item: str) -> bytes:
    """The JSON object ``item`` with ``kind``, on one line. JSON columns keep the line breaks of their input."""
    return f'{{"kind":"{kind}",{item[1:]}'.replace("\n", " ").encode() + b"\n"
