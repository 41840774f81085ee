"""Back-off against guessing: after too many failures each attempt has to wait, twice as long each time."""

import time
from collections import OrderedDict
from math import ceil

from service.errors import TooManyRequests
from service.limits.rate_limits import network_of
from service.settings import settings

_MOST_KEYS = 100_000  # then the one with the oldest failure is dropped
_KEPT = 3600.0  # seconds without a failure


class Attempts:
    """Counts failed attempts by key, in this worker. After ``free`` of them (times RATE_LIMIT_SCALE, if that is above
    1) each one doubles the wait, from one second up to ``longest`` seconds."""

    def __init__(self, free: int, longest: float) -> None:
        self._free = round(free * max(1, settings.rate_limit_scale))
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
    """One attempt to sign in: ``account`` is the key of the login."""

    def __init__(self, account: str, address: str) -> None:
        self._account = account
        self._address = network_of(address)
        self._pair = f"{self._address} {self._account}"

    def begin(self, *, known: bool) -> None:
        """Raises TooManyRequests while it has to wait. ``known``: this address has signed in to the account before."""
        waits = [_by_pair.wait(self._pair), _by_address.wait(self._address)]
        if not known:
            waits.append(_by_account.wait(self._account))
        if wait := max(waits):
            raise TooManyRequests(
                "Too many failed sign-ins: wait as long as Retry-After says (in seconds).",
                headers={"Retry-After": str(wait)},
            )
        _by_pair.begin(self._pair)
        _by_address.begin(self._address)
        _by_account.begin(self._account)

    def succeed(self) -> None:
        _by_pair.forget(self._pair)
        _by_address.take_back(self._address)
        _by_account.take_back(self._account)
