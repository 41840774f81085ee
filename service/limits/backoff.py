"""Back-off against guessing: after too many failures each attempt has to wait, twice as long each time."""

import time
from collections import OrderedDict
from contextlib import suppress
from math import ceil
from uuid import UUID

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
  redis.call('HSET', key, 'last', string.format('%.17g', now)) -- tostring may round up
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
_confirmations = Attempts(free=5, longest=300)


_COUNTED = {"pair": "account and network", "address": "network", "account": "account", "confirmation": "account"}


class Attempt:
    """One attempt, which may be a guess. All workers share the failures in Valkey. Without Valkey, or while it is away,
    each worker counts for itself.

    ``counted`` has a name in Valkey, the failures and a key for each. Success drops all failures of the first key.
    """

    _name = ""

    def __init__(self, *counted: tuple[str, Attempts, str]) -> None:
        self._counted = counted

    async def begin(self, *, known: bool = False) -> None:
        """Counts the attempt. Raises TooManyRequests while it has to wait. ``known``: this address has signed in to the
        account before. It does not wait for failures of other addresses, so that nobody elsewhere can lock the owner
        out."""
        exempt = _by_account if known else None
        if wait := await self._wait_or_count(exempt):
            raise TooManyRequests(self._refusal(wait), headers={"Retry-After": str(wait)})

    def _refusal(self, wait: int) -> str:
        limits = ", ".join(f"{attempts._free} for each {_COUNTED[name]}" for name, attempts, _ in self._counted)
        counted = f"The limits are {limits}. An hour without a failure ends the count."
        return f"Too many failed {self._name}. {counted} Retry in {wait} second{'s' * (wait > 1)}."

    async def succeed(self) -> None:
        (_, first, key), *others = self._counted
        first.forget(key)
        for _, attempts, key in others:
            attempts.take_back(key)
        if valkey is not None and not valkey.is_away:
            with suppress(Away):
                forgotten, *taken_back = self._keys()
                await valkey.ask("DEL", forgotten)
                for each in taken_back:
                    await valkey.ask("EVAL", _TAKE_BACK, 1, each)

    async def take_back(self) -> None:
        """The attempt neither failed nor succeeded: it is not counted, and earlier failures stay."""
        for _, attempts, key in self._counted:
            attempts.take_back(key)
        if valkey is not None and not valkey.is_away:
            with suppress(Away):
                for each in self._keys():
                    await valkey.ask("EVAL", _TAKE_BACK, 1, each)

    async def _wait_or_count(self, exempt: Attempts | None) -> int:
        if valkey is not None and not valkey.is_away:
            bounds = []
            for _, attempts, _ in self._counted:
                bounds += [str(attempts._free), "0" if attempts is exempt else str(attempts._longest)]
            with suppress(Away):
                keys = self._keys()
                return int(await valkey.ask("EVAL", _BEGIN, len(keys), *keys, round(_KEPT), *bounds))
        return self._wait_or_count_here(exempt)

    def _keys(self) -> list[str]:
        return [f"service:failed-{name}:{key}" for name, _, key in self._counted]

    def _wait_or_count_here(self, exempt: Attempts | None) -> int:
        waits = [attempts.wait(key) for _, attempts, key in self._counted if attempts is not exempt]
        if wait := max(waits):
            return wait
        for _, attempts, key in self._counted:
            attempts.begin(key)
        return 0


class SignIn(Attempt):
    """``account`` is the key of the login, of a user or of an operator."""

    _name = "sign-ins"

    def __init__(self, account: str, address: str) -> None:
        network = network_of(address)
        super().__init__(
            ("pair", _by_pair, f"{network} {account}"),
            ("address", _by_address, network),
            ("account", _by_account, account),
        )


class Confirmation(Attempt):
    """The password that a session is asked for again."""

    _name = "confirmations of a password"

    def __init__(self, user_id: UUID | None) -> None:
        super().__init__(("confirmation", _confirmations, str(user_id)))
