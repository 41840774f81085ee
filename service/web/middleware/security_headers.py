"""The headers of every response: security headers, Cache-Control, Vary, and those in ``state["headers"]``."""

from collections.abc import Awaitable, Container, Iterable
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from service.web.csp import NOTHING
from service.web.middleware.headers import Headers

# From OWASP's REST Security Cheat Sheet and Secure Headers Project. X-XSS-Protection, Expect-CT and HPKP are obsolete.
# Clear-Site-Data has nothing to clear: clients keep their tokens themselves.
_SECURITY = [
    (b"content-security-policy", NOTHING.encode()),  # pages set their own
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-permitted-cross-domain-policies", b"none"),
    (b"x-dns-prefetch-control", b"off"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=63072000; includeSubDomains"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-site"),
    (
        b"permissions-policy",
        b"accelerometer=(), camera=(), display-capture=(), fullscreen=(), geolocation=(), gyroscope=(),"
        b" magnetometer=(), microphone=(), midi=(), payment=(), usb=(), xr-spatial-tracking=()",
    ),
]
_SECURITY_NAMES = frozenset(name for name, _ in _SECURITY)


class SecurityHeaders:
    """``vary`` names the request headers that every response may depend on. A header that the handler has set stays."""

    def __init__(self, app: ASGIApp, vary: Iterable[bytes]) -> None:
        self.app = app
        self.vary = b", ".join(vary)
        self.private_vary = b"Authorization, " + self.vary

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = self._complete(scope, message)
            return send(message)

        await self.app(scope, receive, send_with_headers)

    def _complete(self, scope: Any, start: Any) -> Headers:
        headers: Headers = list(start.get("headers", ()))
        present = dict(headers)
        caching = present.get(b"cache-control")
        if caching is None:
            caching = b"no-cache" if b"etag" in present else b"no-store"
            headers.append((b"cache-control", caching))
        vary = self.vary
        if scope["path"].startswith("/v1") and caching != b"no-store" and not caching.startswith(b"public"):
            vary = self.private_vary  # a cache may keep the response for this caller only
        if b"vary" in present:  # one header with all values: some caches read only the first
            vary = b", ".join([*(value for name, value in headers if name == b"vary"), vary])
            headers = [header for header in headers if header[0] != b"vary"]
        headers.append((b"vary", vary))
        collected = scope["state"]["headers"]
        headers += collected.items() if collected.keys().isdisjoint(present) else _missing(collected.items(), present)
        headers += _SECURITY if _SECURITY_NAMES.isdisjoint(present) else _missing(_SECURITY, present)
        return headers


def _missing(headers: Iterable[tuple[bytes, bytes]], present: Container[bytes]) -> Headers:
    return [header for header in headers if header[0] not in present]
