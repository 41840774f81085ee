"""Health checks and metrics."""

import asyncio
import hmac
import tempfile
from ipaddress import ip_address
from typing import Any

from litestar import Controller, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest

from service.database.engine import DB
from service.database.migrations import pending_migrations
from service.errors import Forbidden
from service.limits.valkey import valkey
from service.settings import settings
from service.web.routes import get

_CONNECTIONS = Gauge("database_connections", "Connections of this worker's pool.", ["state"])

_FROM_PROXIES = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")
# Other states only degrade: a load balancer that removed a busy worker would overload the others
_PREVENTS_SERVING = {"away", "pending", "not writable"}


class HealthController(Controller):
    include_in_schema = False

    @get("/health/live")
    async def get_live(self) -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @get("/health/ready")
    async def get_ready(self) -> Response[dict[str, Any]]:
        """503 with the reasons when the service cannot serve; "degraded" when it can, but with limitations."""
        database = await _check_database()
        checks = {
            "database": database,
            "migrations": await _check_migrations() if database == "ok" else "unknown",
            "storage": await _check_storage(),
        }
        if valkey is not None:
            checks["limits"] = "not shared" if valkey.is_away else "ok"
        states = set(checks.values())
        if states & _PREVENTS_SERVING:
            return Response({"status": "unavailable", "checks": checks}, status_code=503, headers={"Retry-After": "1"})
        return Response({"status": "ok" if states == {"ok"} else "degraded", "checks": checks})

    @get("/metrics")
    async def get_metrics(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Prometheus metrics of this worker: for clients on this machine, or with METRICS_TOKEN."""
        if not _may_read_metrics(request):
            raise Forbidden("Metrics are for this machine, or for METRICS_TOKEN.")
        if DB.pool is not None:
            _CONNECTIONS.labels("open").set(DB.pool.get_size())
            _CONNECTIONS.labels("idle").set(DB.idle_connections())
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _check_database() -> str:
    """Does not wait for a connection: while all are in use, the database is there."""
    if DB.pool is not None and DB.pool.get_size() == DB.pool.get_max_size() and not DB.idle_connections():
        return "busy"
    try:
        async with asyncio.timeout(2), DB.connection() as connection:
            await connection.fetchval("SELECT 1")
    except Exception:  # with any error, this instance cannot serve
        return "away"
    return "ok"


async def _check_migrations() -> str:
    try:
        async with asyncio.timeout(2):
            return "pending" if await pending_migrations() else "ok"
    except Exception:
        return "unknown"


async def _check_storage() -> str:
    try:
        async with asyncio.timeout(2):
            await asyncio.to_thread(_write_temporary_file)
    except OSError:  # TimeoutError is one
        return "not writable"
    return "ok"


def _write_temporary_file() -> None:
    """Raises OSError. Permissions alone prove nothing: root has them all, and a disk can be full or read-only."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.data_dir) as file:
        file.write(b"health")


def _may_read_metrics(request: Request[Any, Any, Any]) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if settings.metrics_token and scheme.lower() == "bearer" and _is_same(token, settings.metrics_token):
        return True
    if any(name in request.headers for name in _FROM_PROXIES) and not settings.trusted_proxies:
        return False  # from a proxy on this machine, for a client elsewhere
    client = request.client.host if request.client else ""
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return False


def _is_same(given: str, secret: str) -> bool:
    """In constant time. compare_digest() accepts only ASCII in strings."""
    return hmac.compare_digest(given.encode(), secret.encode())
