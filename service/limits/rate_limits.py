"""Rate limits: how many requests of each kind a user may send, or an address without a user."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Literal
from uuid import UUID

from service import metrics
from service.errors import TooManyRequests
from service.limits.counters import Counter
from service.settings import settings

_REFUSED = metrics.Counter("rate_limit_refusals", "Requests refused because there were too many.", ["limit"])


@dataclass(frozen=True)
class Limit:
    """At most ``rate`` units in each window of ``seconds``. A unit is a request, a stored byte or a message. ``by``
    says for whom they are counted.

    Routes with the same limit share its counter. ``hint`` is added to the detail of a refusal.
    """

    name: str
    rate: int
    seconds: int
    by: Literal["caller", "address", "recipient"] = "caller"
    hint: str = ""

    def __deepcopy__(self, _: Any) -> "Limit":
        """Litestar copies each handler with its middleware. A copy of the limit would have a counter of its own."""
        return self

    @cached_property
    def most(self) -> int:
        """``rate``, multiplied as the settings say."""
        return max(1, round(self.rate * settings.rate_limit_factor))

    def key(self, scope: Any) -> str | UUID:
        """The id of the caller, or the address."""
        user: UUID | None = scope["user"].id
        if self.by == "caller" and user is not None:
            return user
        return address_of(scope)

    def check(self, count: int, wait: int) -> None:
        """Raises TooManyRequests when ``count`` is above the limit. The window ends in ``wait`` seconds."""
        if count > self.most:
            _REFUSED.labels(self.name).inc()
            raise TooManyRequests(self._refusal(wait), headers={"Retry-After": str(wait)})

    def _refusal(self, wait: int) -> str:
        """The detail of a refusal, with the seconds to wait."""
        window = {60: "a minute", 3_600: "an hour", 86_400: "a day"}.get(self.seconds, f"{self.seconds} seconds")
        retry = f"Retry in {wait} second{'s' * (wait > 1)}."
        return f"The limit '{self.name}' is {self.most} in {window} for each {self.by}. {self.hint}{retry}"

    @cached_property
    def header(self) -> bytes:
        """The value of RateLimit-Limit."""
        return b"%d" % self.most

    @cached_property
    def counter(self) -> Counter:
        return Counter(self.name, self.seconds)


def address_of(scope: Any) -> str:
    """The client's address, or its network in IPv6."""
    return network_of(scope["client"][0]) if scope.get("client") else "-"


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """The address that limits count. In IPv6 it is the network (/64): every client has a whole one."""
    if ":" not in address:
        return address
    try:
        v6 = IPv6Address(address)
    except ValueError:
        return address
    return str(v6.ipv4_mapped or IPv6Network((int(v6), 64), strict=False))


READS = Limit("reads", 6_000, 60)
WRITES = Limit("writes", 1_200, 60)
TOKEN_LOOK_UPS = Limit("token-look-ups", 1_200, 60, by="address")  # of tokens that this worker does not know
SIGN_IN = Limit("sign-in", 20, 60, by="address")
SIGN_UP = Limit("sign-up", 10, 3_600, by="address")
MAIL = Limit("mail", 10, 3_600, by="address")
NEW_EMAIL = Limit("new-email", 10, 3_600)
STORED_BYTES = Limit("stored-bytes", 2 * settings.quota_stored_bytes, 86_400)  # of files, used in the end or not
WRITTEN_BYTES = Limit(
    "written-bytes",
    settings.quota_stored_bytes,
    86_400,
    hint="It counts the bytes of JSON bodies of more than 4 KiB. ",
)
STORED_RESPONSES = Limit(
    "stored-responses",
    64 * 1024**2,  # bytes
    86_400,
    hint="It counts the bytes of responses that are stored for an Idempotency-Key. Nothing was changed. The request is"
    " not refused without the key. ",
)
RECIPIENT = Limit("recipient", 10, 3_600, by="recipient")
RECIPIENT_OF_LINKS = Limit("recipient-of-links", 1, 60, by="recipient")
