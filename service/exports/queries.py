import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from tempfile import TemporaryFile
from typing import IO, Any

from service.audit.queries import ENTRY
from service.audit.tables import AuditEntry
from service.auth.queries import KEY, SESSION
from service.auth.tables import Token
from service.callers import Caller
from service.cards.queries import CARD
from service.cards.tables import Card
from service.characters.scopes import CHARACTER
from service.characters.tables import Character, Revision
from service.database.engine import DB
from service.database.prepared import Param, Prepared, json_object, utc
from service.errors import Unavailable
from service.relationships.queries import RELATIONSHIP
from service.relationships.tables import Relationship
from service.templates.queries import SUMMARY as TEMPLATE
from service.templates.tables import Template, TemplateVersion
from service.templates.versions.queries import VERSION
from service.users.queries import own_fields
from service.users.tables import User

ROWS_AT_ONCE = 25  # of an export; a character can be 300 KiB
CARDS_AT_ONCE = 1  # of 8 MiB
LONGEST_EXPORT = 600.0  # seconds in which the client reads it
LONGEST_QUERY = 300.0  # seconds in which PostgreSQL gives it, and a connection is held
MAX_BYTES = 4 * 1024**3  # of the temporary file
PIECE = 256 * 1024  # bytes
_exports = asyncio.Semaphore(2)


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
    """All that the member owns, as it was at one moment, as NDJSON in pieces: read them all, or close it.

    A temporary file is between PostgreSQL and the client, so a slow client holds no connection. Raises Unavailable
    while too many exports are under way; one that is read too slowly breaks off.
    """
    pieces = _export(user)
    await anext(pieces)  # as long as nothing is sent, a failure can be told
    return pieces


class _Spool:
    """A temporary file that one task writes while another reads it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.changed = asyncio.Event()

    async def write(self, piece: bytes) -> None:
        if self.size + len(piece) > MAX_BYTES:
            raise Unavailable("The export is too large.")
        write = asyncio.ensure_future(asyncio.to_thread(self.file.write, piece))
        try:
            await asyncio.shield(write)
        finally:
            await asyncio.wait([write])  # also when this is cancelled: the file must stay open until then
        self.size += len(piece)
        self.changed.set()

    async def read(self, at: int) -> bytes:
        return await asyncio.to_thread(os.pread, self.file.fileno(), min(PIECE, self.size - at), at)


async def _export(user: Caller) -> AsyncGenerator[bytes, None]:
    if _exports.locked():
        raise Unavailable("Too many exports are under way.")
    async with _exports:
        with TemporaryFile(buffering=0) as file:
            spool = _Spool(file)
            writing = asyncio.create_task(_write(user, spool))
            writing.add_done_callback(lambda _: spool.changed.set())
            try:
                await spool.changed.wait()
                if not spool.size:
                    await writing  # raises why
                yield b""
                async for piece in _read(spool, writing):
                    yield piece
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)


async def _write(user: Caller, spool: _Spool) -> None:
    """Writes all as fast as PostgreSQL gives it, and then frees the connection."""
    try:
        async with (
            asyncio.timeout(LONGEST_QUERY),
            DB.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            for kind, rows in _EVERYTHING.items():
                at_once = CARDS_AT_ONCE if kind == "card" else ROWS_AT_ONCE
                async for batch in rows.batches(connection, at_once, user=user.id, side=None):
                    await spool.write(b"".join([_line(kind, row["item"]) for row in batch]))
    except TimeoutError:
        raise Unavailable("The export took too long to make.") from None


async def _read(spool: _Spool, writing: "asyncio.Task[None]") -> AsyncIterator[bytes]:
    ends, at = time.monotonic() + LONGEST_EXPORT, 0
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


def _line(kind: str, item: str) -> bytes:
    """``item``, a JSON object, on one line; operators may have written JSON on several."""
    return f'{{"kind":"{kind}",{item[1:]}'.replace("\n", " ").encode() + b"\n"
