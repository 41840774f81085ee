"""Counting events of each key in fixed windows of time: what limits are made of."""

import time
from contextlib import suppress
from math import ceil
from typing import Any

from service.limits.valkey import Away, valkey

_MOST = 100_000  # windows of one kind in this process; past it, those that ended are dropped, and then all

# Each tells the count and the milliseconds that are left; a script is atomic, so no count is without its end
_HIT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}"""
_PEEK = "return {tonumber(redis.call('GET', KEYS[1]) or 0), redis.call('PTTL', KEYS[1])}"


class Windows:
    """Counted by all workers together in Valkey, when there is one; by each for itself when there is none, or while it
    is away. ``name`` is theirs alone."""

    def __init__(self, name: str, seconds: int) -> None:
        self.name = name
        self.seconds = seconds
        self._here = Memory(seconds)

    async def hit(self, key: str) -> tuple[int, int]:
        """Counts one more; the count in this window, and the seconds until it ends."""
        told = await _shared("EVAL", _HIT, 1, self._named(key), self.seconds * 1000) if valkey else None
        return self._here.hit(key) if told is None else (told[0], max(1, ceil(told[1] / 1000)))

    async def peek(self, key: str) -> tuple[int, int]:
        """The count in this window, and the seconds until it ends; nothing is counted."""
        told = await _shared("EVAL", _PEEK, 1, self._named(key))
        return self._here.peek(key) if told is None else (told[0], max(0, ceil(told[1] / 1000)))

    async def reset(self, key: str) -> None:
        """The next hit is the first of a new window."""
        self._here.reset(key)
        await _shared("DEL", self._named(key))

    def _named(self, key: str) -> str:
        return f"service:{self.name}:{key}"


async def _shared(*command: str | int) -> Any:
    """What Valkey answers; None when there is none, or it is away."""
    if valkey is None or valkey.is_away:
        return None
    with suppress(Away):
        return await valkey.ask(*command)
    return None


class Memory:
    """Windows of this process."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._ends_and_counts: dict[str, list[float]] = {}

    def hit(self, key: str) -> tuple[int, int]:
        now = time.monotonic()
        window = self._ends_and_counts.get(key)
        if window is None or window[0] <= now:
            if len(self._ends_and_counts) >= _MOST:
                self._drop(now)
            window = self._ends_and_counts[key] = [now + self.seconds, 0]
        window[1] += 1
        return int(window[1]), min(self.seconds, ceil(window[0] - now))  # a float may come out a hair longer

    def peek(self, key: str) -> tuple[int, int]:
        now = time.monotonic()
        end, count = self._ends_and_counts.get(key, (now, 0))
        return (int(count), min(self.seconds, ceil(end - now))) if end > now else (0, 0)

    def reset(self, key: str) -> None:
        self._ends_and_counts.pop(key, None)

    def _drop(self, now: float) -> None:
        alive = {key: window for key, window in self._ends_and_counts.items() if window[0] > now}
        self._ends_and_counts = alive if len(alive) < _MOST else {}
