"""CORS: pages of the configured origins may use the API in browsers. In development pages of this machine may, too."""

import re
from collections.abc import Iterable
from typing import Any

from litestar.types import ASGIApp, Receive, Send

_PREFLIGHT = {
    b"access-control-allow-methods": b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    b"access-control-allow-headers": (
        b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-ID"
    ),
    b"access-control-max-age": b"600",
}
_EXPOSED = (
    b"Content-Disposition, ETag, Idempotency-Replayed, Link, Location, RateLimit-Limit, RateLimit-Remaining, "
    b"RateLimit-Reset, Retry-After, X-Request-ID"
)
_LOCAL = re.compile(rb"http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?")


class Cors:
    """``local`` allows http://localhost and http://127.0.0.1 with any port."""

    def __init__(self, app: ASGIApp, origins: Iterable[str], *, local: bool) -> None:
        self.app = app
        self.origins = {origin.encode() for origin in origins}
        self.local = local

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        if origin in self.origins or (self.local and _LOCAL.fullmatch(origin)):
            allowed: dict[bytes, bytes] = {b"access-control-allow-origin": origin}
            is_preflight = b"access-control-request-method" in headers
            allowed |= _PREFLIGHT if is_preflight else {b"access-control-expose-headers": _EXPOSED}
            scope["state"]["headers"] |= allowed
        await self.app(scope, receive, send)
