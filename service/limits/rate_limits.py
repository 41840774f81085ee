"""Rate limits: how many requests of each kind a user, or an address without one, may send."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Literal

from service.limits.counters import Windows
from service.settings import settings

_EVERY_METHOD = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Limit:
    """At most ``rate`` requests in each window of ``seconds``, of each caller or of each address.

    Counted are requests with one of ``methods`` below ``/v1``. Routes with the same limit share its counter.
    """

    name: str
    rate: int
    seconds: int
    methods: frozenset[str] = _EVERY_METHOD
    by: Literal["caller", "address"] = "caller"

    @cached_property
    def most(self) -> int:
        """``rate``, scaled by RATE_LIMIT_SCALE."""
        return max(1, round(self.rate * settings.rate_limit_scale))

    def covers(self, scope: Any) -> bool:
        return scope["method"] in self.methods and scope["path"].startswith("/v1")

    def key(self, scope: Any) -> str:
        if self.by == "caller" and scope["user"].id is not None:
            return str(scope["user"].id)
        return network_of(scope["client"][0]) if scope.get("client") else "-"

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.name, self.seconds)


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


READS = Limit("reads", 6_000, 60, methods=frozenset({"GET", "OPTIONS"}))
WRITES = Limit("writes", 1_200, 60, methods=frozenset({"POST", "PUT", "PATCH", "DELETE"}))
SIGN_IN = Limit("sign-in", 20, 60, by="address")
SIGN_UP = Limit("sign-up", 10, 3_600, by="address")
LETTERS = Limit("letters", 10, 3_600, by="address")
