"""Idempotency-Key: the stored response to a POST request, which is sent again if the request is repeated."""

import uuid
from hashlib import sha256

import msgspec
from piccolo.querystring import QueryString

from service.callers import NO_LONGER_VALID
from service.database.prepared import Param, Prepared, insert
from service.errors import Conflict, Unauthorized, Unprocessable, Violation
from service.idempotency.tables import IdempotencyKey
from service.limits.rate_limits import STORED_RESPONSES

_CUTOFF = QueryString("now() - interval '24 hours'")
ENDED = IdempotencyKey.created_at < _CUTOFF

_ROW = 512  # bytes of a row beside the body
_COUNTED_TOGETHER = 64 * 1024  # bytes: smaller responses of a user are counted once they are as many together
_MOST_USERS = 10_000
_not_counted: dict[uuid.UUID, int] = {}  # bytes of this worker's small responses

_COLUMNS = ("id", "user", "body_digest", "status", "headers", "body")
# The user first, to whom the key's row will refer (see service/characters/locks.py)
_TRY_LOCK = Prepared(
    lambda: QueryString(
        "SELECT pg_try_advisory_xact_lock({}) FROM users WHERE id = {} FOR KEY SHARE", Param("number"), Param("user")
    )
)
_GET = Prepared(
    lambda: IdempotencyKey.select(*(getattr(IdempotencyKey, name) for name in _COLUMNS)).where(
        IdempotencyKey.id == Param("id"), IdempotencyKey.created_at >= _CUTOFF
    )
)
_STORE = Prepared(
    lambda: insert(IdempotencyKey, *_COLUMNS).on_conflict(  # type: ignore[attr-defined] # an Insert, typed as any Query
        target=IdempotencyKey.id, action="DO UPDATE", values=IdempotencyKey.all_columns()
    )
)


class Attempt(msgspec.Struct, frozen=True):
    """A request with a key, in a transaction: its response is stored if and only if its changes are committed."""

    user: uuid.UUID
    id: uuid.UUID
    body_digest: bytes

    @classmethod
    def of(cls, user: uuid.UUID, method: str, target: str, key: str, body_digest: bytes) -> "Attempt":
        """``target`` is the path with its query."""
        scoped = msgspec.json.encode([user, method, target, key])
        return cls(user, uuid.UUID(bytes=sha256(scoped).digest()[:16]), body_digest)

    async def find_answer(self) -> tuple[int, dict[str, str], bytes] | None:
        """The response stored for the key, or None if the key is new. A new key is locked until the transaction ends.

        Raises Conflict if another request has locked the key, Unprocessable if the key was used with another body, and
        Unauthorized if the account was purged."""
        is_locked = await _TRY_LOCK.value(number=int.from_bytes(self.id.bytes[:8], signed=True), user=self.user)
        if is_locked is None:
            raise Unauthorized(NO_LONGER_VALID)
        if not is_locked:
            fault = Violation("Is in use by a request that is still running.", header="Idempotency-Key")
            raise Conflict("Another request with this Idempotency-Key is still running.", errors=[fault])
        row = await _GET.one(id=self.id)  # a separate statement, which sees what the last holder of the lock committed
        if row is None:
            return None
        if row["body_digest"] != self.body_digest:
            fault = Violation("Was used with another body.", header="Idempotency-Key")
            raise Unprocessable("This Idempotency-Key belongs to another request.", errors=[fault])
        return row["status"], msgspec.json.decode(row["headers"]), row["body"]

    async def keep_answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Raises TooManyRequests when the user's responses of a day are too large together: no quota counts them."""
        await _count_bytes(self.user, len(body) + _ROW)
        await _STORE.one(
            id=self.id,
            user=self.user,
            body_digest=self.body_digest,
            status=status,
            headers=msgspec.json.encode(headers).decode(),
            body=body,
        )


async def _count_bytes(user: uuid.UUID, size: int) -> None:
    size += _not_counted.pop(user, 0)
    if size < _COUNTED_TOGETHER:
        if len(_not_counted) >= _MOST_USERS:
            _not_counted.clear()
        _not_counted[user] = size
        return
    count, wait = await STORED_RESPONSES.counter.count(user, size)
    if count > STORED_RESPONSES.most:
        _not_counted[user] = _COUNTED_TOGETHER  # so that the next one is not small
    STORED_RESPONSES.check(count, wait)
