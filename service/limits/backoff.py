"""Back-off against guessing: after too many failures each attempt has to wait, twice as long each time."""

import time
from collections import OrderedDict
from contextlib import suppress
from math import ceil

from service.errors import TooManyRequests
from service.limits.rate_limits import network_of
from service.limits.valkey import Away, valkey
from service.settings import settings

_MOST_KEYS = 100_000  # then the one with the oldest failure is dropped
_KEPT = 3600.0  # seconds without a failure

# For each key: free failures and the longest wait. Returns the seconds to wait, or counts an attempt for all keys
_BEGIN = """
local time, longest = redis.call('TIME'), 0
local now = time[1] + time[2] / 1000000
for i, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'count', 'last')
  local over = tonumber(found[1] or '0') - tonumber(ARGV[2 * i])
  if over >= 0 then
    local pause = math.min(tonumber(ARGV[2 * i + 1]), 2 ^ math.min(over, 30))
    longest = math.max(longest, math.ceil(tonumber(found[2] or '0') + pause - now))
  end
end
if longest > 0 then return longest end
for _, key in ipairs(KEYS) do
  redis.call('HINCRBY', key, 'count', 1)
  redis.call('HSET', key, 'last', tostring(now))
  redis.call('EXPIRE', key, ARGV[1])
end
return 0"""
_TAKE_BACK = "if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('HINCRBY', KEYS[1], 'count', -1) end"


class Attempts:
    """Counts failed attempts by key, in this worker. After ``free`` of them (times the rate limit factor, if that is
    above 1) each one doubles the wait, from one second up to ``longest`` seconds."""

    def __init__(self, free: int, longest: float) -> None:
        self._free = round(free * max(1, settings.rate_limit_factor))
        self._longest = longest
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, key: str) -> int:
        """Whole seconds until the next attempt is allowed."""
        count, last = self._failed.get(key, (0, 0.0))
        if count < self._free:
            return 0
        pause = min(self._longest, 2.0 ** min(count - self._free, 30))
        return max(0, ceil(last + pause - time.monotonic()))

    def begin(self, key: str) -> None:
        """Counts the attempt before its outcome is known: concurrent attempts are limited, too."""
        now = time.monotonic()
        count, last = self._failed.pop(key, (0, now))
        self._failed[key] = (1 if now - last > _KEPT else count + 1, now)
        if len(self._failed) > _MOST_KEYS:
            self._failed.popitem(last=False)

    def take_back(self, key: str) -> None:
        """The attempt succeeded: it is no longer counted."""
        if key in self._failed:
            count, last = self._failed[key]
            self._failed[key] = (max(0, count - 1), last)

    def forget(self, key: str) -> None:
        """The attempt succeeded: all failures of the key are dropped."""
        self._failed.pop(key, None)


_by_pair = Attempts(free=5, longest=300)
_by_address = Attempts(free=100, longest=60)
_by_account = Attempts(free=50, longest=60)


class SignIn:
    """One attempt to sign in: ``account`` is the key of the login. All workers share the failures in Valkey. Without
    Valkey, or while it is away, each worker counts for itself."""

    def __init__(self, account: str, address: str) -> None:
        self._account = account
        self._address = network_of(address)
        self._pair = f"{self._address} {self._account}"

    async def begin(self, *, known: bool) -> None:
        """Raises TooManyRequests while it has to wait. ``known``: this address has signed in to the account before."""
        if wait := await self._wait_or_count(known=known):
            raise TooManyRequests(
                "Too many failed sign-ins: wait as long as Retry-After says (in seconds).",
                headers={"Retry-After": str(wait)},
            )

    async def succeed(self) -> None:
        _by_pair.forget(self._pair)
        _by_address.take_back(self._address)
        _by_account.take_back(self._account)
        if valkey is not None and not valkey.is_away:
            pair, address, account = self._keys()
            with suppress(Away):
                await valkey.ask("DEL", pair)
                await valkey.ask("EVAL", _TAKE_BACK, 1, address)
                await valkey.ask("EVAL", _TAKE_BACK, 1, account)

    async def _wait_or_count(self, *, known: bool) -> int:
        if valkey is not None and not valkey.is_away:
            counted = (_by_pair, _by_address, _by_account)
            bounds = [str(number) for each in counted for number in (each._free, each._longest)]
            if known:
                bounds[-1] = "0"
            with suppress(Away):
                return int(await valkey.ask("EVAL", _BEGIN, 3, *self._keys(), round(_KEPT), *bounds))
        return self._wait_or_count_here(known=known)

    def _keys(self) -> tuple[str, str, str]:
        return (
            f"service:failed-pair:{self._pair}",
            f"service:failed-address:{self._address}",
            f"service:failed-account:{self._account}",
        )

    def _wait_or_count_here(self, *, known: bool) -> int:
        waits = [_by_pair.wait(self._pair), _by_address.wait(self._address)]
        if not known:
            waits.append(_by_account.wait(self._account))
        if wait := max(waits):
            return wait
        _by_pair.begin(self._pair)
        _by_address.begin(self._address)
        _by_account.begin(self._account)
        return 0
