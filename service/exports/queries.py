import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

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
from service.errors import TooManyRequests, Unavailable
from service.relationships.queries import RELATIONSHIP
from service.relationships.tables import Relationship
from service.templates.queries import SUMMARY as TEMPLATE
from service.templates.tables import Template, TemplateVersion
from service.templates.versions.queries import VERSION
from service.users.queries import own_fields
from service.users.tables import User

BATCH_SIZE = 25  # rows; a character can have 300 KiB
CARD_BATCH_SIZE = 1  # a card can have 8 MiB
MAX_SECONDS = 600.0  # for an export
MAX_SECONDS_PER_BATCH = 60  # for the client to read it
RETRY_AFTER = "10"  # seconds
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
_exports = asyncio.Semaphore(2)  # each uses a connection of this worker's pool until its client has read it


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

    Raises TooManyRequests while another export of the user is running, and Unavailable while this worker has too many.
    If the client reads too slowly, iterating raises an error.
    """
    chunks = _export(user)
    await anext(chunks)  # a failure before the first byte can still become a problem response
    return chunks


async def _export(user: Caller) -> AsyncGenerator[bytes, None]:
    if _exports.locked():
        raise Unavailable("Too many exports are running.")
    deadline = time.monotonic() + MAX_SECONDS
    async with (
        _exports,
        DB.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{MAX_SECONDS_PER_BATCH}s'")
        # Held until the transaction ends, and seen by all workers
        if not await connection.fetchval(_LOCK, f"export of {user.id}"):
            raise TooManyRequests("Another export of yours is running.", headers={"Retry-After": RETRY_AFTER})
        yield b""
        for kind, rows in _EVERYTHING.items():
            size = CARD_BATCH_SIZE if kind == "card" else BATCH_SIZE
            async for batch in rows.batches(connection, size, user=user.id, side=None):
                if time.monotonic() > deadline:
                    raise Unavailable("The export took too long to read.")
                yield b"".join([_line(kind, row["item"]) for row in batch])


def _line(kind: str, item: str) -> bytes:
    """The JSON object ``item`` with ``kind``, on one line. JSON columns keep the line breaks of their input."""
    return f'{{"kind":"{kind}",{item[1:]}'.replace("\n", " ").encode() + b"\n"
