"""Headers that every response carries: security headers, Cache-Control, Vary, and those collected in the state."""

from collections.abc import Container, Iterable
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from service.web.csp import NOTHING
from service.web.middleware.compression import Headers

# By OWASP's REST Security Cheat Sheet and Secure Headers Project. X-XSS-Protection, Expect-CT and HPKP do harm or
# nothing any more; Clear-Site-Data has nothing to clear, as tokens are kept by clients.
_SECURITY = [
    (b"content-security-policy", NOTHING.encode()),  # pages bring one of their own
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
    """``vary`` names the request headers that any response may depend on."""

    def __init__(self, app: ASGIApp, vary: Iterable[bytes]) -> None:
        self.app = app
        self.vary = list(vary)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._complete(scope, message)
            await send(message)

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
            vary = [b"Authorization", *vary]  # a cache may keep it, but for this caller alone
        if b"vary" in present:  # one header with all values: some caches read only the first
            vary = [value for name, value in headers if name == b"vary"] + vary
            headers = [header for header in headers if header[0] != b"vary"]
        headers.append((b"vary", b", ".join(vary)))
        headers += _missing(scope["state"]["headers"].items(), present)
        headers += _SECURITY if _SECURITY_NAMES.isdisjoint(present) else _missing(_SECURITY, present)
        return headers


def _missing(headers: Iterable[tuple[bytes, bytes]], present: Container[bytes]) -> Headers:
    return [header for header in headers if header[0] not in present]
