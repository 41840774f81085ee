"""Idempotency-Key: what a POST was answered, so that sent again it is answered again, not done again."""

import uuid
from hashlib import sha256

import msgspec
from piccolo.querystring import QueryString

from service.database.prepared import Param, Prepared, insert
from service.errors import Conflict, Unprocessable, Violation
from service.idempotency.tables import IdempotencyKey

_OLDEST = QueryString("now() - interval '24 hours'")
ENDED = IdempotencyKey.created_at < _OLDEST

_COLUMNS = ("id", "user", "body_digest", "status", "headers", "body")
_TRY_LOCK = Prepared(lambda: QueryString("SELECT pg_try_advisory_xact_lock({})", Param("number")))
_GET = Prepared(
    lambda: IdempotencyKey.select(*(getattr(IdempotencyKey, name) for name in _COLUMNS)).where(
        IdempotencyKey.id == Param("id"), IdempotencyKey.created_at >= _OLDEST
    )
)
_KEEP = Prepared(
    lambda: insert(IdempotencyKey, *_COLUMNS).on_conflict(  # type: ignore[attr-defined] # an Insert, typed as any Query
        target=IdempotencyKey.id, action="DO UPDATE", values=IdempotencyKey.all_columns()
    )
)


class Attempt(msgspec.Struct, frozen=True):
    """A request with a key, in a transaction: its answer is kept when, and only when, its work is."""

    user: uuid.UUID
    id: uuid.UUID
    body_digest: bytes

    @classmethod
    def of(cls, user: uuid.UUID, method: str, target: str, key: str, body: bytes) -> "Attempt":
        """``target`` is the path with its query."""
        scoped = msgspec.json.encode([user, method, target, key])
        return cls(user, uuid.UUID(bytes=sha256(scoped).digest()[:16]), sha256(body).digest())

    async def find_answer(self) -> tuple[int, dict[str, str], bytes] | None:
        """What the key was answered before; None the first time, and then no other gets as far until the transaction
        ends. Raises Conflict where another has, Unprocessable when the key came with another body before."""
        if not await _TRY_LOCK.value(number=int.from_bytes(self.id.bytes[:8], signed=True)):
            raise Conflict("Another request with this Idempotency-Key is being worked on.")
        row = await _GET.one(id=self.id)  # a statement of its own, to see what the last holder of the lock did
        if row is None:
            return None
        if row["body_digest"] != self.body_digest:
            fault = Violation("Was used with another body.", header="Idempotency-Key")
            raise Unprocessable("This Idempotency-Key belongs to another request.", errors=[fault])
        return row["status"], msgspec.json.decode(row["headers"]), row["body"]

    async def keep_answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        await _KEEP.one(
            id=self.id,
            user=self.user,
            body_digest=self.body_digest,
            status=status,
            headers=msgspec.json.encode(headers).decode(),
            body=body,
        )
