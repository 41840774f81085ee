"""CORS: pages of the configured origins may use the API in browsers."""

from collections.abc import Iterable
from typing import Any

from litestar.types import ASGIApp, Receive, Send

_PREFLIGHT = {
    b"access-control-allow-methods": b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    b"access-control-allow-headers": (
        b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-ID"
    ),
    b"access-control-max-age": b"600",
}
_EXPOSED = (
    b"ETag, Link, Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-ID, "
    b"Idempotency-Replayed"
)


class Cors:
    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self.app = app
        self.origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if (origin := headers.get(b"origin", b"")) in self.origins:
            allowed: dict[bytes, bytes] = {b"access-control-allow-origin": origin}
            is_preflight = b"access-control-request-method" in headers
            allowed |= _PREFLIGHT if is_preflight else {b"access-control-expose-headers": _EXPOSED}
            scope["state"]["headers"] |= allowed
        await self.app(scope, receive, send)
