"""What every request passes before Litestar, in one pass: Litestar's middleware never sees an unknown path.

It gives the request its id, refuses foreign hosts, answers OPTIONS, HEAD and 304, adds the headers that every answer
carries, compresses, tells failures in front of Litestar as problems, counts, and writes the access line.
"""

import re
import time
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any

from litestar._asgi.asgi_router import ASGIRouter
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.types import ASGIApp, Message, Receive, Send
from litestar.utils import normalize_path

from service.errors import BadRequest, HeadersTooLarge, UrlTooLong
from service.identifiers import request_id
from service.log import REQUEST, AccessLine, log_request
from service.settings import Settings
from service.web.csp import NOTHING
from service.web.middleware.access_log import count_request
from service.web.middleware.compression import Compression, Headers, is_worth_it, preferred
from service.web.problems import allowed, log_failure, raw_problem, to_problem

MAX_URL = 8 * 1024  # bytes, with the query
MAX_PARAMETERS = 100  # in the query
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024  # of all together
_TOLD_OF_A_PATH = 256

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
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


class Doorway:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.origins = {origin.encode() for origin in settings.cors_origins}
        self.hosts = {host.lower() for host in settings.allowed_hosts if not host.startswith("*")}
        self.parents = tuple(host[1:].lower() for host in settings.allowed_hosts if host.startswith("*."))
        self._is_ours = lru_cache(maxsize=100)(self._judge)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # type: ignore[typeddict-item] # nothing here speaks it
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        state = scope.setdefault("state", {})
        given = headers.get(b"x-request-id")
        state["request_id"] = known_as = given.decode() if given and _REQUEST_ID.fullmatch(given) else request_id()
        # what is told to the client whoever answers; limits add to it
        state["headers"] = carried = {b"x-request-id": known_as.encode(), **self._cors(headers)}
        answer = _Answer(send, scope, headers, carried)
        if self.origins:
            answer.vary.append(b"Origin")
        under_way = REQUEST.set(scope)
        try:
            await self._answer(scope, receive, answer)
        except Exception as error:
            await answer.fail(error)
        finally:
            REQUEST.reset(under_way)
            _write_access_line(scope, answer, time.perf_counter() - started)

    async def _answer(self, scope: Any, receive: Receive, answer: "_Answer") -> None:
        _refuse_oversized(scope)
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1:  # of which each part of the service might believe another
            raise BadRequest("There is more than one Host header.")
        if not self._is_ours(b"".join(hosts)) and not scope["path"].startswith("/health/"):
            raise BadRequest("The Host header names no host of this service.")
        scope["path"] = normalize_path(scope["path"])  # as the router will: //v1 must not pass by who looks for /v1
        if scope["method"] == "HEAD":
            scope["method"] = "GET"
        await self.app(scope, receive, answer)

    def _judge(self, host: bytes) -> bool:
        text = host.decode("latin-1")
        name = (text if text.endswith("]") else re.sub(r":\d+$", "", text)).lower()
        return name in self.hosts or (bool(self.parents) and name.endswith(self.parents)) or "*" in self.hosts

    def _cors(self, headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        if (origin := headers.get(b"origin", b"")) not in self.origins:
            return {}
        allowed = {b"access-control-allow-origin": origin}
        if b"access-control-request-method" in headers:
            return allowed | _PREFLIGHT
        return allowed | {b"access-control-expose-headers": _EXPOSED}


def _refuse_oversized(scope: Any) -> None:
    """Bodies are bounded where they are read."""
    query: bytes = scope["query_string"]
    if len(scope.get("raw_path") or b"") + len(query) > MAX_URL:
        scope["path"] = scope["path"][:_TOLD_OF_A_PATH]  # in the log and in the problem
        raise UrlTooLong(f"The URL is longer than {MAX_URL} bytes.")
    if query.count(b"&") >= MAX_PARAMETERS:
        raise BadRequest(f"The query has more than {MAX_PARAMETERS} parameters.")
    headers: Headers = scope["headers"]
    if len(headers) > MAX_HEADERS:
        raise HeadersTooLarge(f"The request has more than {MAX_HEADERS} headers.")
    if sum(map(len, chain.from_iterable(headers))) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"The headers are larger than {MAX_HEADER_BYTES} bytes.")


class Options:
    """Answers OPTIONS with every method of the path, where Litestar would tell one handler's."""

    def __init__(self, app: ASGIApp, router: ASGIRouter) -> None:
        self.app = app
        self.router = router

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "OPTIONS" or not (methods := self._methods(scope["path"])):
            await self.app(scope, receive, send)
            return
        allow = ", ".join(methods).encode()
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _methods(self, path: str) -> list[str]:
        """Every method that the path answers to; none for an unknown one."""
        try:
            self.router.handle_routing(path=path, method="TRACE")  # which no route has
        except MethodNotAllowedException as error:
            return allowed((error.headers or {})["allow"])
        except NotFoundException:
            return []
        return allowed("GET, POST, PUT, PATCH, DELETE")  # a mounted application, which takes what it gets


class _Answer:
    """``send``, with what every answer carries. Its start waits for the first piece of the body, so that until then a
    failure can still be told instead."""

    def __init__(self, send: Send, scope: Any, request: dict[bytes, bytes], carried: dict[bytes, bytes]) -> None:
        self.send = send
        self.scope = scope
        self.carried = carried
        self.vary = [b"Accept-Encoding"]
        self.encoding = preferred(request.get(b"accept-encoding", b""))
        self.compression: Compression | None = None
        self.method = scope["method"]
        self.without_body = self.method == "HEAD"
        self.if_none_match = request.get(b"if-none-match") if self.method in ("GET", "HEAD") else None
        self.start: Any = None
        self.begun = False
        self.status = 0
        self.size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if not self.begun:
            self.begun = True
            self.scope["method"] = self.method  # the server lets HEAD alone send less than its Content-Length
            headers = self.start["headers"] = self._complete(self.start)
            self.start["status"] = self.status
            if self.encoding is not None and is_worth_it(self.status, headers):
                self.compression = Compression(self.encoding, self.start)
            else:
                await self.send(self.start)
        for each in self.compression.messages(message) if self.compression else (message,):
            await self._send(each)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            if self.without_body:
                message["body"] = b""
            self.size += len(message.get("body", b""))
        await self.send(message)

    async def fail(self, error: Exception) -> None:
        """Tells a failure that nothing further in told; one in the middle of an answer can only break it off."""
        problem = to_problem(error)
        log_failure(error, problem)
        if self.begun:
            raise error
        status, headers, body = raw_problem(self.scope, problem)
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body, "more_body": False})

    def _complete(self, start: Any) -> Headers:
        """Decides the status; the headers that go with it."""
        headers: Headers = list(start.get("headers", ()))
        told = dict(headers)
        self.status = start["status"]
        if self.status == 200 and self.if_none_match is not None and _matches(self.if_none_match, told.get(b"etag")):
            self.status, self.without_body = 304, True
            headers = [header for header in headers if not header[0].startswith(b"content-")]
        caching = told.get(b"cache-control")
        if caching is None:
            caching = b"no-cache" if b"etag" in told else b"no-store"
            headers.append((b"cache-control", caching))
        vary = self.vary
        if self.scope["path"].startswith("/v1") and caching != b"no-store" and not caching.startswith(b"public"):
            vary = [b"Authorization", *vary]  # what may be kept was given to this caller
        if b"vary" in told:  # one for all that an answer depends on: some caches read only the first
            vary = [value for name, value in headers if name == b"vary"] + vary
            headers = [header for header in headers if header[0] != b"vary"]
        headers.append((b"vary", b", ".join(vary)))
        headers += _without(self.carried.items(), told)
        headers += _SECURITY if _SECURITY_NAMES.isdisjoint(told) else _without(_SECURITY, told)
        return headers


def _without(headers: Iterable[tuple[bytes, bytes]], told: Container[bytes]) -> Headers:
    return [header for header in headers if header[0] not in told]


def _matches(if_none_match: bytes, etag: bytes | None) -> bool:
    """The weak comparison of RFC 9110."""
    if etag is None:
        return False
    tags = {tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")}
    return b"*" in tags or etag.removeprefix(b"W/") in tags


def _write_access_line(scope: Any, answer: _Answer, seconds: float) -> None:
    route = scope.get("path_template") or "-"
    status = answer.status or 499
    path = route if "{token" in route else scope["path"]  # a log is no place for what opens an account
    count_request(scope["method"], route, answer.status, seconds)
    milliseconds = round(seconds * 1000, 2)
    log_request(
        AccessLine(
            time=datetime.now(UTC),
            message=f"{scope['method']} {path} {status} in {milliseconds:.1f} ms",
            request_id=scope["state"]["request_id"],
            method=scope["method"],
            path=path,
            route=route,
            status=status,
            milliseconds=milliseconds,
            bytes=answer.size,
            client=scope["client"][0] if scope.get("client") else "-",
        )
    )
