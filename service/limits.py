"""Rate limits: how many requests a member, or an address without one, may send of each kind."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Literal

from litestar.middleware.rate_limit import DURATION_VALUES, RateLimitConfig
from litestar.types import ASGIApp, Receive, Send
from prometheus_client import Counter

from service.errors import TooManyRequests
from service.settings import settings
from service.windows import Windows

_REFUSED = Counter("rate_limit_refusals", "Requests refused because there were too many.", ["limit"])


class RateLimit:
    """Litestar's rate limit middleware done again: limits do not share counters, a refusal says when to come back,
    and the headers tell of the innermost limit that counted (the doorway adds them to the answer)."""

    def __init__(self, app: ASGIApp, config: "Limit") -> None:
        self.app = app
        self.config = config
        self.most = max(1, round(config.rate_limit[1] * settings.rate_limit_scale))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.config.covers(scope):
            await self._count(scope)
        await self.app(scope, receive, send)

    async def _count(self, scope: Any) -> None:
        count, seconds = await self.config.windows.hit(self.config.key(scope))
        scope["state"]["headers"] |= {
            b"ratelimit-limit": b"%d" % self.most,
            b"ratelimit-remaining": b"%d" % max(0, self.most - count),
            b"ratelimit-reset": b"%d" % seconds,
        }
        if count > self.most:
            _REFUSED.labels(self.config.name).inc()
            raise TooManyRequests(headers={"Retry-After": str(seconds)})


@dataclass
class Limit(RateLimitConfig):
    """``rate_limit`` requests, of those with one of ``methods`` below ``path``, of each caller or each address.

    Routes with the same limit share its count.
    """

    name: str = ""
    path: str = "/v1"
    methods: frozenset[str] = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
    by: Literal["caller", "address"] = "caller"
    middleware_class: Any = RateLimit

    def covers(self, scope: Any) -> bool:
        return scope["method"] in self.methods and scope["path"].startswith(self.path)

    def key(self, scope: Any) -> str:
        if self.by == "caller" and scope["user"].id is not None:
            return str(scope["user"].id)
        return network_of(scope["client"][0]) if scope.get("client") else "-"

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.name, DURATION_VALUES[self.rate_limit[0]])


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """Whom an address stands for: IPv6 gives everybody a network (/64), so that a limit for one address is none."""
    if ":" not in address:
        return address
    try:
        v6 = IPv6Address(address)
    except ValueError:
        return address
    return str(v6.ipv4_mapped or IPv6Network((int(v6), 64), strict=False))


READS = Limit(("minute", 6_000), name="reads", methods=frozenset({"GET", "OPTIONS"}))
WRITES = Limit(("minute", 1_200), name="writes", methods=frozenset({"POST", "PUT", "PATCH", "DELETE"}))
SIGN_IN = Limit(("minute", 20), name="sign-in", by="address")
SIGN_UP = Limit(("hour", 10), name="sign-up", by="address")
LETTERS = Limit(("hour", 10), name="letters", by="address")
