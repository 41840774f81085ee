"""Looks up the caller behind a token, and remembers them for a few seconds."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from service.auth.queries import find_caller, record_use
from service.auth.secrets import is_well_formed
from service.callers import NO_LONGER_VALID, Caller
from service.database.failures import TRANSIENT
from service.errors import Unavailable

REMEMBERED = 5.0  # seconds until a token that was revoked elsewhere is refused here, at the latest
_MOST = 10_000
_USE_IS_WRITTEN_EVERY = timedelta(minutes=1)

_MISTYPED = "This is no token of this service: send 'Bearer <token>', whole and as it was given."

_remembered: dict[str, tuple[float, Caller]] = {}
_generation = 0  # rises with each revocation in this worker


def forget_tokens() -> None:
    """Empties the cache of this worker. Call it after a revocation."""
    global _generation
    _generation += 1
    _remembered.clear()


async def identify(authorization: str) -> Caller | str:
    """The caller, or the reason for refusing the token."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not is_well_formed(token):
        return _MISTYPED
    remembered = _remembered.get(token)
    if remembered is not None and remembered[0] > time.monotonic():
        caller = remembered[1]
        return caller if caller.expires_at is None or caller.expires_at > datetime.now(UTC) else NO_LONGER_VALID
    generation = _generation
    found = await find_caller(token)
    if found is None:
        _remembered.pop(token, None)
        return NO_LONGER_VALID
    if found.last_used_at is None or found.last_used_at < datetime.now(UTC) - _USE_IS_WRITTEN_EVERY:
        with suppress(Unavailable, *TRANSIENT):  # a database that only reads still serves reads
            await record_use(found.caller.token_id)
    if len(_remembered) >= _MOST:
        _remembered.clear()
    if generation == _generation:  # else it may have been revoked since it was read
        _remembered[token] = (time.monotonic() + REMEMBERED, found.caller)
    return found.caller
