"""The access line and the metrics of each request."""

import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send
from msgspec import UNSET

from service.identifiers import masked
from service.log import REQUEST, AccessLine, log_request
from service.metrics import Counter, Histogram

_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from request to answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_ANSWERS = Counter("http_requests", "Requests answered.", ["method", "route", "status"])
NO_RESPONSE = 499  # nginx's status for a client that left


class AccessLog:
    """Counts each request and writes its access line when the request ends. Until then every log line has its id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        started, method = time.perf_counter(), scope["method"]
        status = size = 0

        def send_and_count(message: Message) -> Awaitable[None]:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message["body"])
            return send(message)

        current = REQUEST.set(scope)
        try:
            await self.app(scope, receive, send_and_count)
        finally:
            REQUEST.reset(current)
            seconds = time.perf_counter() - started
            route = scope.get("path_template") or "-"
            _count(method, route, status, seconds)
            _log(scope, method, route, status or NO_RESPONSE, size, seconds)


def _count(method: str, route: str, status: int, seconds: float) -> None:
    duration, answers = _series(method, route, status)
    duration.observe(seconds)
    answers.inc()


@lru_cache(maxsize=2_000)
def _series(method: str, route: str, status: int) -> tuple[Any, Any]:
    return _SECONDS.labels(method, route), _ANSWERS.labels(method, route, str(status))


def _log(scope: Any, method: str, route: str, status: int, size: int, seconds: float) -> None:
    path = masked(scope["path"])  # a client may put a token into any path
    milliseconds = round(seconds * 1000, 2)
    log_request(
        AccessLine(
            time=datetime.now(UTC),
            message=f"{method} {path} {status} in {milliseconds:.1f} ms",
            request_id=scope["state"]["request_id"],
            trace_id=scope["state"].get("trace_id", UNSET),
            method=method,
            path=path,
            route=route,
            status=status,
            milliseconds=milliseconds,
            bytes=size,
            client=masked(scope["client"][0]) if scope.get("client") else "-",  # a proxy may pass on any text
        )
    )
