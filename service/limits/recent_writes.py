"""Notes, for all workers, the users who have written in the last seconds: they read from the primary."""

import time
from contextlib import suppress
from uuid import UUID

from service.limits.valkey import Away, valkey

SECONDS = 5  # more than a replica may be behind, and than a request waits before it reads


async def note_write(user: UUID) -> None:
    """Call it after the write and before its answer."""
    if valkey is not None:
        with suppress(Away):  # this worker then takes every user for one who has written
            await valkey.ask("SET", _key(user), 1, "PX", SECONDS * 1000)


async def may_have_written(user: UUID) -> bool:
    """Whether the user has written in the last seconds. Without Valkey nobody knows; nor shortly after it was away, as
    it may have lost what it knew."""
    if valkey is None or valkey.is_away or time.monotonic() - valkey.since < SECONDS:
        return True
    try:
        return bool(await valkey.ask("EXISTS", _key(user)))
    except Away:
        return True


def _key(user: UUID) -> str:
    return f"service:has-written:{user}"
