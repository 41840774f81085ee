"""Counts events by key in fixed windows of time: the basis of rate limits."""

import time
from contextlib import suppress
from math import ceil
from uuid import UUID

from service.limits.valkey import Away, valkey

_MAX_KEYS = 100_000  # of one counter in this process; past it, windows that ended are dropped, and then all

# Returns the count and the milliseconds that are left. A script is atomic: no count exists without its end
_COUNT = """
local count = redis.call('INCRBY', KEYS[1], ARGV[2])
if count == tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}"""


class Counter:
    """All workers share it in Valkey. Without Valkey, or while it is away, each worker counts for itself. ``name`` is
    unique."""

    def __init__(self, name: str, seconds: int) -> None:
        self.name = name
        self.seconds = seconds
        self._local = LocalCounter(seconds)

    async def count(self, key: str | UUID, events: int = 1) -> tuple[int, int]:
        """Counts one or more events. Returns the count in this window, and the seconds until it ends."""
        if valkey is not None and not valkey.is_away:
            with suppress(Away):
                key_in_valkey = f"service:{self.name}:{key}"
                count, left = await valkey.ask("EVAL", _COUNT, 1, key_in_valkey, self.seconds * 1000, events)
                return count, max(1, ceil(left / 1000))
        return self._local.count(key, events)


class LocalCounter:
    """The counters of this process."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._ends_and_counts: dict[str | UUID, list[float]] = {}

    def count(self, key: str | UUID, events: int = 1) -> tuple[int, int]:
        now = time.monotonic()
        window = self._ends_and_counts.get(key)
        if window is None or window[0] <= now:
            if len(self._ends_and_counts) >= _MAX_KEYS:
                self._drop(now)
            window = self._ends_and_counts[key] = [now + self.seconds, 0]
        window[1] += events
        return int(window[1]), min(self.seconds, ceil(window[0] - now))  # rounding may add a second

    def _drop(self, now: float) -> None:
        running = {key: window for key, window in self._ends_and_counts.items() if window[0] > now}
        self._ends_and_counts = running if len(running) < _MAX_KEYS else {}
