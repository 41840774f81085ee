"""Rate limits: how many requests a member, or an address without one, may send of each kind."""

import time
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from litestar.middleware.rate_limit import DURATION_VALUES, RateLimitConfig
from litestar.types import ASGIApp, Message, Receive, Send

from service.errors import TooManyRequests
from service.settings import settings

_MOST_WINDOWS = 100_000  # of one limit; past it, those that ended are dropped, and then all


class Windows:
    """Fixed windows, counted in this process."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._ends_and_counts: dict[str, list[float]] = {}

    def count(self, key: str) -> tuple[int, int]:
        """Counts one more; the count in this window, and the seconds until it ends."""
        now = time.monotonic()
        window = self._ends_and_counts.get(key)
        if window is None or window[0] <= now:
            if len(self._ends_and_counts) >= _MOST_WINDOWS:
                self._drop(now)
            window = self._ends_and_counts[key] = [now + self.seconds, 0]
        window[1] += 1
        return int(window[1]), min(self.seconds, ceil(window[0] - now))  # a float may come out a hair longer

    def _drop(self, now: float) -> None:
        alive = {key: window for key, window in self._ends_and_counts.items() if window[0] > now}
        self._ends_and_counts = alive if len(alive) < _MOST_WINDOWS else {}


class RateLimit:
    """Litestar's rate limit middleware done again: limits do not share counters, a refusal says when to come back,
    and the headers tell of the innermost limit that counted."""

    def __init__(self, app: ASGIApp, config: "Limit") -> None:
        unit, most = config.rate_limit
        self.app = app
        self.config = config
        self.most = max(1, round(most * settings.rate_limit_scale))
        self.windows = Windows(DURATION_VALUES[unit])

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.config.covers(scope):
            await self.app(scope, receive, send)
            return
        count, seconds = self.windows.count(self.config.key(scope))
        headers = {
            "ratelimit-limit": str(self.most),
            "ratelimit-remaining": str(max(0, self.most - count)),
            "ratelimit-reset": str(seconds),
        }
        if count > self.most:
            raise TooManyRequests(headers=headers | {"Retry-After": str(seconds)})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = list(message.get("headers", ()))
                if not any(name == b"ratelimit-limit" for name, _ in told):
                    told += [(name.encode(), value.encode()) for name, value in headers.items()]
                    message["headers"] = told
            await send(message)

        await self.app(scope, receive, send_with_headers)


@dataclass
class Limit(RateLimitConfig):
    """``rate_limit`` requests, of those with one of ``methods`` below ``path``, of each caller or each address."""

    path: str = "/v1"
    methods: frozenset[str] = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
    by: Literal["caller", "address"] = "caller"
    middleware_class: Any = RateLimit

    def covers(self, scope: Any) -> bool:
        return scope["method"] in self.methods and scope["path"].startswith(self.path)

    def key(self, scope: Any) -> str:
        if self.by == "caller" and scope["user"].id is not None:
            return str(scope["user"].id)
        return scope["client"][0] if scope.get("client") else "-"


READS = Limit(("minute", 6_000), methods=frozenset({"GET", "OPTIONS"}))
WRITES = Limit(("minute", 1_200), methods=frozenset({"POST", "PUT", "PATCH", "DELETE"}))
SIGN_IN = Limit(("minute", 20), by="address")
SIGN_UP = Limit(("hour", 10), by="address")
LETTERS = Limit(("hour", 10), by="address")
