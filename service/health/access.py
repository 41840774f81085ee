"""Access to health checks and metrics."""

import hmac
from ipaddress import ip_address
from typing import Any

from litestar import Request

from service.settings import settings
from service.web.middleware.headers import request_header

_FROM_PROXIES = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")


def may_name_any_host(scope: Any) -> bool:
    """Load balancers and Prometheus may know a worker only by its address.

    Without the token, metrics need an allowed host: else a web page could read them through a browser on this machine,
    if the page's name leads there.
    """
    path = scope["path"]
    if path.startswith("/health/"):
        return True
    return path == "/metrics" and _has_token((request_header(scope, b"authorization") or b"").decode("latin-1"))


def may_read_metrics(request: Request[Any, Any, Any]) -> bool:
    if _has_token(request.headers.get("authorization", "")):
        return True
    if any(name in request.headers for name in _FROM_PROXIES) and not settings.trusted_proxies:
        return False  # from a proxy on this machine, for a client elsewhere
    client = request.client.host if request.client else ""
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return False


def _has_token(authorization: str) -> bool:
    scheme, _, token = authorization.partition(" ")
    # In constant time. compare_digest() accepts only ASCII in strings
    is_same = hmac.compare_digest(token.encode(), settings.metrics_token.encode())
    return bool(settings.metrics_token) and scheme.lower() == "bearer" and is_same
