"""Counts a request against a rate limit, and refuses it when there were too many."""

from typing import Any

from litestar.types import ASGIApp, Receive, Send
from prometheus_client import Counter

from service.errors import TooManyRequests
from service.limits.rate_limits import Limit

_REFUSED = Counter("rate_limit_refusals", "Requests refused because there were too many.", ["limit"])


class RateLimit:
    """Litestar's rate limit middleware done again: limits do not share counters, a refusal says when to come back,
    and the headers tell of the innermost limit that counted (SecurityHeaders adds them to the response)."""

    def __init__(self, app: ASGIApp, limit: Limit) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.limit.covers(scope):
            await self._count(scope)
        await self.app(scope, receive, send)

    async def _count(self, scope: Any) -> None:
        count, seconds = await self.limit.windows.hit(self.limit.key(scope))
        scope["state"]["headers"] |= {
            b"ratelimit-limit": b"%d" % self.limit.most,
            b"ratelimit-remaining": b"%d" % max(0, self.limit.most - count),
            b"ratelimit-reset": b"%d" % seconds,
        }
        if count > self.limit.most:
            _REFUSED.labels(self.limit.name).inc()
            raise TooManyRequests(headers={"Retry-After": str(seconds)})


def rate_limit(limit: Limit) -> Any:
    """The middleware of one route."""
    return lambda app: RateLimit(app, limit)
