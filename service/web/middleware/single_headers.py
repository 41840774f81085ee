"""Repeated headers: two parts of the service might each believe another. Headers with one value are refused, and lists
are joined (RFC 9110, 5.3)."""

from typing import Any

from service.errors import BadRequest, Violation

# Transfer-Encoding is a list, too, but the service supports only one encoding
SINGLE = {
    name.lower().encode(): name
    for name in (
        "Access-Control-Request-Method", "Authorization", "Content-Length", "Content-Type", "Host", "Idempotency-Key",
        "Origin", "Range", "Sec-Fetch-Site", "Transfer-Encoding", "User-Agent", "X-CSRFToken", "X-Request-ID",
    )
}  # fmt: skip


def check_single_headers(scope: Any) -> None:
    names = [name for name, _ in scope["headers"]]
    if len(names) == len(set(names)):
        return
    repeated = {name for name in names if names.count(name) > 1}  # of at most 100 headers
    if refused := sorted(SINGLE[name] for name in repeated if name in SINGLE):
        errors = [Violation("Must be given only once.", header=name) for name in refused]
        raise BadRequest(f"There is more than one {refused[0]} header.", errors=errors)
    values: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        values.setdefault(name, []).append(value)
    scope["headers"] = [(name, (b"; " if name == b"cookie" else b", ").join(each)) for name, each in values.items()]
