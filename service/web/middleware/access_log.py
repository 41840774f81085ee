"""The access line and the metrics of each request."""

from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Histogram

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
