"""Counts requests against rate limits, and refuses those above them. A request that costs more counts as several."""

from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.datastructures import MultiDict
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Send

from service.limits.rate_limits import Limit

Parameters = MultiDict[str]

_LIMITED = ("/v1", "/media", "/admin", "/docs", "/openapi")


class RateLimits:
    """Counts every request to the API, to files, to the admin site and to the pages of the API, as a read or a write.
    Methods that the service does not have, such as TRACE, count as writes on every path."""

    def __init__(self, app: ASGIApp, reads: Limit, writes: Limit) -> None:
        self.app = app
        self._by_method = dict.fromkeys(("GET", "OPTIONS"), reads)
        self._by_method |= dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), writes)
        self._of_unknown_methods = writes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        limit = self._by_method.get(scope["method"])
        if limit is None:
            await count_request(self._of_unknown_methods, scope)
        elif scope["path"].startswith(_LIMITED):
            scope["state"]["rate_limit"] = limit
            await count_request(limit, scope)
        await self.app(scope, receive, send)


class RateLimit(ASGIMiddleware):
    """A route's own limit: ``middleware=[RateLimit(SIGN_IN)]``. Replaces Litestar's, whose limits share counters and
    whose refusals have no Retry-After. The RateLimit headers of a response are those of the route's own limit."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        await count_request(self.limit, scope)
        await next_app(scope, receive, send)


class Cost(ASGIMiddleware):
    """A read that counts as ``units`` reads, or as many as follow from its query parameters:
    ``middleware=[Cost(50)]``. They are checked after this, so they may be anything."""

    def __init__(self, units: int | Callable[[Parameters], int]) -> None:
        self.units = units

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        units = self.units if isinstance(self.units, int) else self.units(Request(scope).query_params)
        await spend(scope, units)
        await next_app(scope, receive, send)


async def spend(scope: Any, units: int) -> None:
    """Makes the request, which was counted once, count as ``units``. Raises TooManyRequests above the limit."""
    if units > 1 and (limit := scope["state"].get("rate_limit")) is not None:
        await count_request(limit, scope, units - 1)


def list_cost(parameters: Parameters) -> int:
    """The units of a page. A filter by many values may match rows in as many places."""
    many = sum(name.endswith(".in") for name in parameters)
    return 1 + many + ("q" in parameters) + (4 if "count" in parameters else 0)


async def count_request(limit: Limit, scope: Any, units: int = 1) -> None:
    """Raises TooManyRequests above the limit."""
    count, seconds = await limit.counter.count(limit.key(scope), units)
    headers = scope["state"]["headers"]
    headers[b"ratelimit-limit"] = limit.header
    headers[b"ratelimit-remaining"] = b"%d" % max(0, limit.most - count)
    headers[b"ratelimit-reset"] = b"%d" % seconds
    limit.check(count, seconds)
