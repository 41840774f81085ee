"""The access line and the metrics of each request."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send
from prometheus_client import Counter, Histogram

from service.log import REQUEST, AccessLine, log_request

_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from request to answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_ANSWERS = Counter("http_requests", "Requests answered.", ["method", "route", "status"])


@lru_cache(maxsize=2_000)
def _series(method: str, route: str, status: int) -> tuple[Any, Any]:
    return _SECONDS.labels(method, route), _ANSWERS.labels(method, route, str(status))


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    duration, answers = _series(method, route, status)
    duration.observe(seconds)
    answers.inc()


class AccessLog:
    """Counts each request and writes its access line, when it is over."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        started, method = time.perf_counter(), scope["method"]
        status = size = 0

        async def send_and_count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message["body"])
            await send(message)

        current = REQUEST.set(scope)
        try:
            await self.app(scope, receive, send_and_count)
        finally:
            REQUEST.reset(current)
            _write(scope, method, status, size, time.perf_counter() - started)


def _write(scope: Any, method: str, status: int, size: int, seconds: float) -> None:
    route = scope.get("path_template") or "-"
    path = route if "{token" in route else scope["path"]  # a log must not hold what opens an account
    count_request(method, route, status, seconds)
    milliseconds = round(seconds * 1000, 2)
    shown = status or 499  # the client left before there was a response
    log_request(
        AccessLine(
            time=datetime.now(UTC),
            message=f"{method} {path} {shown} in {milliseconds:.1f} ms",
            request_id=scope["state"]["request_id"],
            method=method,
            path=path,
            route=route,
            status=shown,
            milliseconds=milliseconds,
            bytes=size,
            client=scope["client"][0] if scope.get("client") else "-",
        )
    )
