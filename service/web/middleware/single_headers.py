"""Refuses requests that repeat a header which has one value: two parts of the service might each believe another."""

from typing import Any

from service.errors import BadRequest, Violation

# Lists, such as Accept or If-Match, may be split into several headers. Transfer-Encoding is one, too, but the service
# supports only one encoding
SINGLE = {
    name.lower().encode(): name
    for name in (
        "Access-Control-Request-Method", "Authorization", "Content-Length", "Content-Type", "Host", "Idempotency-Key",
        "Origin", "Range", "Sec-Fetch-Site", "Transfer-Encoding", "User-Agent", "X-CSRFToken", "X-Request-ID",
    )
}  # fmt: skip


def check_single_headers(scope: Any) -> None:
    given = [name for name, _ in scope["headers"] if name in SINGLE]
    if len(given) > len(set(given)):
        repeated = sorted(SINGLE[name] for name in set(given) if given.count(name) > 1)
        errors = [Violation("Must be given only once.", header=name) for name in repeated]
        raise BadRequest(f"There is more than one {repeated[0]} header.", errors=errors)
